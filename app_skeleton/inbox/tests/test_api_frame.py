import io

import probe
import pytest
from inbox import storage
from openapi_spec_validator import validate

PROBLEM = "application/problem+json"


@pytest.fixture
def app(make_app):
    return probe.put_into(make_app())


def is_problem(answer, status):
    assert (answer.status_code, answer.mimetype) == (status, PROBLEM), answer.text
    assert answer.json["request_id"] == answer.headers["X-Request-ID"]
    assert answer.json["detail"]
    return answer.json


def test_every_error_is_a_problem_document(app, client, bearer):
    viewer, operator = bearer("viewer"), bearer("operator")
    post = {"path": probe.PATH, "method": "POST", "headers": operator}
    is_problem(client.open(**post, data="{", content_type="application/json"), 400)
    is_problem(client.get(probe.PATH), 401)
    is_problem(client.get(f"{probe.PATH}?number=0"), 401)
    is_problem(client.open(**{**post, "headers": viewer}, json={}), 403)
    is_problem(client.get("/api/v1/nothing", headers=viewer), 404)
    is_problem(client.delete(probe.PATH, headers=viewer), 405)
    is_problem(client.open(**post, data=b" " * (512 * 1024 + 1), content_type="application/json"), 413)
    is_problem(client.open(**post, data="number=1", content_type="text/plain"), 415)
    assert set(is_problem(client.open(**post, json={"number": 0}), 422)["errors"]["json"]) == {"number"}
    app.view_functions["probe.look"] = lambda: 1 / 0
    assert "division" not in is_problem(client.get(probe.PATH), 500)["detail"]


@pytest.fixture
def keeping(app, tmp_path):
    """The app's folder for files, with one in it, and what asks for it: page and resource."""
    with app.app_context():
        storage.current().save("kept/a", io.BytesIO(b"x"))
    app.view_functions["probe.look"] = lambda: str(storage.current().size("kept/a"))
    app.view_functions["page"] = lambda: str(storage.current().save("kept/b", io.BytesIO(b"x")))
    return tmp_path / "files"


def said(caplog):
    """Return the events told in the log, with their level."""
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_storage_that_is_away_is_no_defect_to_programs_nor_people(client, keeping, caplog):
    assert (client.get(probe.PATH).status_code, client.get(probe.PAGE).status_code) == (200, 200)
    keeping.rename(keeping.with_name("elsewhere"))
    keeping.write_text("in the way")
    for_programs, for_people = client.get(probe.PATH), client.get(probe.PAGE)
    assert is_problem(for_programs, 503)["detail"] == "The storage does not answer."
    assert (for_people.status_code, for_people.mimetype) == (503, "text/html")
    assert "The storage does not answer." in for_people.text
    for answer in (for_programs, for_people):
        assert answer.headers["Retry-After"] == "5"
        assert str(keeping) not in answer.text
    told = [words for level, words in said(caplog) if level == "ERROR"]
    assert len(told) == 2
    assert all("Not a directory" in words and "STORAGE_URL" in words for words in told), told
    keeping.unlink()
    keeping.with_name("elsewhere").rename(keeping)
    assert (client.get(probe.PATH).status_code, client.get(probe.PAGE).status_code) == (200, 200)


def test_file_that_is_gone_is_not_found(client, keeping):
    (keeping / "kept" / "a").unlink()
    answer = client.get(probe.PATH)
    assert "not in the storage" in is_problem(answer, 404)["detail"]
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize(
    "body", ["", "[" * 100_000, '{"number": ' + "9" * 5000 + "}", "NaN", "null", "\ufeff{}"], ids=range(6)
)
def test_no_body_breaks_the_parser(client, bearer, body):
    sent = {"data": body.encode(), "content_type": "application/json", "headers": bearer("operator")}
    assert client.post(probe.PATH, **sent).status_code in (201, 400, 422)


def test_document_is_valid_and_tells_tokens_and_errors(client):
    document = client.get("/api/v1/openapi.json").json
    validate(document)
    look, change = (document["paths"][probe.PATH][method] for method in ("get", "post"))
    for operation, success in ((look, "200"), (change, "201")):
        assert operation["security"] == [{"access": []}]
        assert operation["summary"]
        wanted = {"400", "401", "403", "404", "413", "415", "422", "429", "500", "503", success}
        assert set(operation["responses"]) == wanted
    assert set(document["components"]["responses"]["Problem422"]["content"]) == {PROBLEM}
    assert document["paths"]["/api/v1/tokens"]["post"]["security"] == []


def test_documentation_page_shows_it(client):
    page = client.get("/api/docs")
    assert (page.status_code, probe.PATH in page.text) == (200, True)
