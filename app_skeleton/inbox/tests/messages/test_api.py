import io
import json

import pytest
from databases import counted
from inbox import create_app
from inbox.auth import users
from inbox.messages.models import Attempt, Message
from inbox.models import db, now
from openapi_spec_validator import validate
from people import PASSWORD
from sqlalchemy import insert
from sqlalchemy.exc import TimeoutError as PoolTimeout

MESSAGES = "/api/v1/messages"
PROBLEM = "application/problem+json"


def fill(app, count, first=1):
    with app.app_context():
        rows = [
            {"id": number, "source": "github", "body": "{}", "event": "push", "delivery_id": f"d-{number}"}
            for number in range(first, first + count)
        ]
        db.session.execute(insert(Message), rows)
        db.session.commit()


def is_problem(answer, status):
    assert (answer.status_code, answer.mimetype) == (status, PROBLEM), answer.text
    problem = answer.json
    assert (problem["type"], problem["status"]) == ("about:blank", status)
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    return problem


# Errors


def test_every_error_is_a_problem_document(app, client, bearer):
    viewer = bearer("viewer")
    operator = bearer("operator")
    post = {"path": "/api/v1/messages/replay-dead", "method": "POST", "headers": operator}
    assert "json" in is_problem(client.open(**post, data="{", content_type="application/json"), 400)["errors"]
    is_problem(client.get(MESSAGES), 401)
    is_problem(client.open(**{**post, "headers": viewer}, json={}), 403)
    is_problem(client.get(f"{MESSAGES}/7", headers=viewer), 404)
    is_problem(client.get(f"{MESSAGES}/{10**40}", headers=viewer), 404)
    is_problem(client.get("/api/v1/nothing"), 404)
    is_problem(client.get("/api"), 404)
    deleted = client.delete(MESSAGES, headers=viewer)
    is_problem(deleted, 405)
    assert {"GET", "HEAD", "OPTIONS"} <= {word.strip() for word in deleted.headers["Allow"].split(",")}
    too_large = b" " * (512 * 1024 + 1)
    is_problem(client.open(**post, data=too_large, content_type="application/json"), 413)
    is_problem(client.open(**post, data="limit=1", content_type="application/x-www-form-urlencoded"), 415)
    is_problem(client.open(**post, data="{}"), 415)
    found = is_problem(client.open(**post, json={"limit": 0, "colour": "red"}), 422)
    assert set(found["errors"]["json"]) == {"limit", "colour"}
    found = is_problem(client.get(f"{MESSAGES}?limit=x&stauts=dead", headers=viewer), 422)
    assert set(found["errors"]["query"]) == {"limit", "stauts"}, "a misspelt filter would find everything"


def test_body_without_a_length_is_limited_all_the_same(client, bearer):
    answer = client.post(
        "/api/v1/messages/replay-dead",
        input_stream=io.BytesIO(b" " * (512 * 1024 + 1)),
        content_type="application/json",
        headers=bearer("operator"),
        environ_overrides={"CONTENT_LENGTH": "", "wsgi.input_terminated": True},
    )
    is_problem(answer, 413)


@pytest.mark.parametrize(
    "body",
    [
        "", "[" * 100_000, '{"limit":' * 50_000, '{"limit": ' + "9" * 5000 + "}", '{"limit": 1e999}', "NaN",
        "null", "[]", '"x"', "\ufeff{}", '{"source": "\\ud800"}', '{"source": "\\u0000"}', '{"limit": true}',
        '{"limit": 1.5}', '{"source": {"a": []}}',
    ],
)  # fmt: skip
def test_no_body_breaks_the_parser(client, bearer, body):
    answer = client.post(
        "/api/v1/messages/replay-dead",
        data=body.encode("utf-8", "surrogatepass"),
        content_type="application/json",
        headers=bearer("operator"),
    )
    assert answer.status_code in (202, 400, 422), answer.text
    if answer.status_code != 202:
        is_problem(answer, answer.status_code)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("since=0001-01-01T00:00:00%2B14:00", 422),
        ("until=9999-12-31T23:59:59-14:00", 422),
        ("since=0001-01-01T00:00:00Z", 200),
        ("since=2026-09-01T00:00:00", 422),
        ("cursor=0", 422),
        ("cursor=9223372036854775808", 422),
        ("cursor=-1", 422),
        ("cursor=٣", 422),
        ("cursor=999999999999999999", 200),
        ("q=%00", 422),
        ("q=%ff", 200),
        ("source=%25_%5c", 200),
        ("limit=201", 422),
        ("limit=200", 200),
    ],
)
def test_odd_filters_are_refused_or_harmless(client, bearer, query, status):
    answer = client.get(f"{MESSAGES}?{query}", headers=bearer("viewer"))
    assert answer.status_code == status, answer.text
    if status == 422:
        is_problem(answer, 422)


def test_defect_is_told_without_its_words_and_logged_with_them(app, client, bearer, caplog):
    def defect(**_):
        raise LookupError("the password is 1234")

    headers = bearer("viewer")
    app.view_functions["messages_api.list_messages"] = defect
    answer = client.get(MESSAGES, headers=headers)
    is_problem(answer, 500)
    assert "1234" not in answer.text
    assert "1234" in caplog.text


def test_busy_pool_and_absent_database_are_passing(app, client, bearer, tmp_path):
    headers = bearer("viewer")

    def busy(**_):
        raise PoolTimeout("QueuePool limit of size 5 reached")

    app.view_functions["messages_api.list_messages"] = busy
    answer = client.get(MESSAGES, headers=headers)
    is_problem(answer, 503)
    assert answer.headers["Retry-After"] == "1"
    away = {"SQLALCHEMY_DATABASE_URI": "postgresql+psycopg://inbox@127.0.0.1:1/inbox", "TESTING": True}
    away |= {"STORAGE_URL": f"file://{tmp_path}", "SECRET_KEY": client.application.secret_key}
    app = create_app(away)
    answer = app.test_client().get(MESSAGES, headers=headers)
    is_problem(answer, 503)
    assert "127.0.0.1" not in answer.text
    assert int(answer.headers["Retry-After"]) > 0


def test_head_and_options_are_answered_as_http_says(client, bearer):
    headers = bearer("viewer")
    answer = client.head(MESSAGES, headers=headers)
    assert (answer.status_code, answer.data) == (200, b"")
    assert int(answer.headers["Content-Length"]) == len(client.get(MESSAGES, headers=headers).data)
    answer = client.head(MESSAGES)
    assert (answer.status_code, answer.data, answer.mimetype) == (401, b"", PROBLEM)
    answer = client.options(MESSAGES)
    assert (answer.status_code, answer.data) == (200, b"")
    assert "GET" in answer.headers["Allow"]
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_people_get_a_page(client):
    answer = client.get("/nothing")
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert answer.headers["X-Request-ID"] in answer.text


def test_stranger_is_told_nothing_about_what_a_request_should_be(client):
    for path, options in {
        f"{MESSAGES}?limit=x": {},
        "/api/v1/messages/replay-dead": {"method": "POST", "data": "{", "content_type": "application/json"},
    }.items():
        is_problem(client.open(path, **options), 401)


# The document


def operations(document):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                yield f"{method.upper()} {path}", operation


@pytest.fixture
def document(client):
    answer = client.get("/api/v1/openapi.json")
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    return answer.json


def test_document_is_valid_openapi(document):
    validate(document)
    assert document["openapi"] == "3.1.0"
    assert "PaginationMetadata" not in document["components"]["schemas"], "what nothing uses confuses"


def test_document_names_every_operation_there_is(app, document):
    here = set()
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api/v1/") and rule.endpoint != "api-docs.openapi_json":
            path = rule.rule.replace("<int:", "{").replace("<string:", "{").replace(">", "}")
            here |= {f"{method} {path}" for method in rule.methods - {"HEAD", "OPTIONS"}}
    assert {name for name, _ in operations(document)} == here
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)


def test_every_operation_says_what_it_does_which_token_it_takes_and_how_it_fails(document):
    for name, operation in operations(document):
        assert operation["summary"], name
        assert operation["tags"], name
        statuses = set(operation["responses"])
        assert {"400", "401", "403", "404", "413", "415", "422", "429", "500", "503"} <= statuses, name
        assert any(status < "300" for status in statuses), name
        for status, answer in operation["responses"].items():
            if status >= "400":
                shared = document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
                assert set(shared["content"]) == {PROBLEM}, name
    tokens = {name: operation["security"] for name, operation in operations(document)}
    assert tokens.pop("POST /api/v1/tokens") == []
    for name in ("POST /api/v1/tokens/refresh", "POST /api/v1/tokens/revoke"):
        assert tokens.pop(name) == [{"refresh": []}]
    assert list(tokens.values()) == [[{"access": []}]] * len(tokens)


def test_document_and_answers_agree_about_what_is_asked_for(app, client, document):
    for name, operation in operations(document):
        method, path = name.split()
        for word in ("message_id", "import_id"):
            path = path.replace(f"{{{word}}}", "1")
        answer = client.open(path.replace("{day}", "2026-09-01"), method=method)
        assert (answer.status_code == 401) == bool(operation["security"]), name


# Pages and questions


def test_pages_have_neither_gap_nor_overlap_while_rows_arrive(app, client, bearer):
    headers = bearer("viewer")
    fill(app, 20)
    seen, cursor, arriving = [], "", 21
    while cursor is not None:
        page = client.get(f"{MESSAGES}?limit=3{cursor}", headers=headers).json
        seen += [message["id"] for message in page["messages"]]
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
        fill(app, 2, arriving)
        arriving += 2
    assert seen == list(range(20, 0, -1))


@pytest.mark.parametrize(("count", "pages"), [(0, [0]), (3, [3]), (4, [3, 1]), (6, [3, 3])])
def test_last_page_says_so(app, client, bearer, count, pages):
    headers = bearer("viewer")
    if count:
        fill(app, count)
    cursor, found = "", []
    while cursor is not None:
        page = client.get(f"{MESSAGES}?limit=3{cursor}", headers=headers).json
        found.append(len(page["messages"]))
        cursor = page["next_cursor"] and f"&cursor={page['next_cursor']}"
    assert found == pages


def test_list_asks_the_database_once_however_long_it_is(app, client, bearer):
    headers = bearer("viewer")
    asked = {}
    for count, first in ((3, 1), (60, 4)):
        fill(app, count, first)
        with counted(app) as statements:
            answer = client.get(f"{MESSAGES}?limit=100", headers=headers)
        asked[len(answer.json["messages"])] = len(statements)
        assert "body" not in answer.json["messages"][0]
        assert "message.body" not in statements[0]
    assert asked == {3: 1, 63: 1}


def test_detail_asks_the_same_however_many_attempts_there_were(app, client, bearer):
    headers = bearer("viewer")
    fill(app, 2)
    attempt = {"began_at": now(), "outcome": "failed", "worker": "w"}
    with app.app_context():
        for message_id, attempts in ((1, 3), (2, 60)):
            rows = [{"message_id": message_id, "number": number, **attempt} for number in range(attempts)]
            db.session.execute(insert(Attempt), rows)
        db.session.commit()
    asked = []
    for message_id, attempts in ((1, 3), (2, 60)):
        with counted(app) as statements:
            answer = client.get(f"{MESSAGES}/{message_id}", headers=headers)
        assert len(answer.json["attempts"]) == attempts
        asked.append(len(statements))
    assert asked == [2, 2]


def test_token_needs_no_database(app, client, bearer):
    headers = bearer("viewer")
    with counted(app) as statements:
        assert client.get(f"{MESSAGES}?limit=0", headers=headers).status_code == 422
    assert statements == []


def test_message_is_replayed_once_asked_for_and_only_if_it_is_over(app, client, bearer):
    headers = bearer("operator")
    fill(app, 2)
    answer = client.post(f"{MESSAGES}/1/replay", headers=headers)
    assert (answer.status_code, answer.json) == (202, {"ids": [1]})
    shown = client.get(f"{MESSAGES}/1", headers=headers).json
    assert (shown["status"], shown["attempt_count"]) == ("done", 1)
    is_problem(client.post(f"{MESSAGES}/9/replay", headers=headers), 404)
    with app.app_context():
        db.session.get(Message, 2).status = "dead"
        db.session.commit()
    for given, ids in (({"source": "stripe"}, []), ({}, [2])):
        answer = client.post(f"{MESSAGES}/replay-dead", headers=headers, json=given)
        assert (answer.status_code, answer.json) == (202, {"ids": ids})


def test_answers_are_json_that_says_its_moments_in_utc(app, client, bearer):
    fill(app, 1)
    (message,) = client.get(MESSAGES, headers=bearer("viewer")).json["messages"]
    assert message["received_at"].endswith("+00:00")
    assert json.dumps(message)


def test_user_of_another_app_is_nobody_here(make_app, bearer):
    other = make_app()
    with other.app_context():
        users.add("admin@example.org", PASSWORD, "admin")
    is_problem(other.test_client().get(MESSAGES, headers=bearer()), 401)
