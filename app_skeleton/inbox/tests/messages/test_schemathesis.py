"""What the API's document says is what the API does, for requests that schemathesis makes up."""

import logging
import threading

import conformance
import pytest
from inbox.auth import users
from people import PASSWORD
from werkzeug.serving import make_server


@pytest.fixture
def app(make_app, tmp_path):
    app = make_app(
        # A file: each of the server's threads has a connection of its own.
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{tmp_path}/inbox.sqlite",
        SIGN_IN_LIMIT="100000 per minute",
        PROVIDER_STATUS_URLS={},
    )
    with app.app_context():
        users.add("operator@example.org", PASSWORD, "operator")
    return app


@pytest.fixture
def url(app):
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line a request, of hundreds
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def token(app):
    given = {"email": "operator@example.org", "password": PASSWORD}
    return app.test_client().post("/api/v1/tokens", json=given).json["access_token"]


def test_stranger_is_refused_in_the_words_of_the_document(url):
    outcome = conformance.of_url(url, seconds=10, examples=3, seed=1)
    assert outcome.failures == []
    assert outcome.cases >= 10


def test_operators_requests_are_answered_as_the_document_says(url, token):
    outcome = conformance.of_url(url, token, seconds=6, examples=10, seed=1)
    assert outcome.failures == []
    # Three hundred on a machine that has nothing else to do.
    assert outcome.cases >= 20


def test_command_names_what_is_wrong(app, url, token, tmp_path, capsys):
    for endpoint in app.view_functions:
        if endpoint != "api-docs.openapi_json":
            app.view_functions[endpoint] = lambda **_: ("{}", 200, {"Content-Type": "text/plain"})
    (tmp_path / "token").write_text(f"{token}\n")
    arguments = [url, "--token-file", str(tmp_path / "token"), "--seconds", "2", "--examples", "1"]
    assert conformance.main(arguments) == 1
    said = capsys.readouterr()
    assert "/api/v1/" in said.err
    assert "text/plain" in said.err
    assert "requests" in said.out
    assert token not in said.out + said.err
