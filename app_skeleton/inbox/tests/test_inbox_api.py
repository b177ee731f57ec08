import json

import pytest
from inbox.messages import BODY_MAX_CHARACTERS
from inbox.models import db
from sqlalchemy.exc import TimeoutError as PoolTimeout

MESSAGES = "/api/v1/messages"


def send(client, source="shop", body="order"):
    return client.post(MESSAGES, json={"source": source, "body": body})


def test_message_is_stored_and_shown(client):
    created = send(client, body="Ärger 🙂\nline two")
    assert created.status_code == 201
    assert created.headers["Location"] == f"{MESSAGES}/{created.json['id']}"
    shown = client.get(created.headers["Location"])
    assert shown.json == created.json
    assert shown.json["body"] == "Ärger 🙂\nline two"
    assert shown.json["received_at"].endswith("Z")


def test_pages_join_without_gap_or_overlap_while_messages_arrive(client):
    ids = [send(client).json["id"] for _ in range(5)]
    first = client.get(MESSAGES, query_string={"limit": 2}).json
    send(client)
    second = client.get(MESSAGES, query_string={"limit": 2, "cursor": first["next_cursor"]}).json
    third = client.get(MESSAGES, query_string={"limit": 2, "cursor": second["next_cursor"]}).json
    seen = [message["id"] for page in (first, second, third) for message in page["messages"]]
    assert seen == sorted(ids, reverse=True)
    assert third["next_cursor"] is None


@pytest.mark.parametrize(
    ("sent", "fields"),
    [
        ({}, {"source", "body"}),
        ([], {""}),
        ("text", {""}),
        ({"source": 1, "body": None}, {"source", "body"}),
        ({"source": " ", "body": ""}, {"source", "body"}),
        ({"source": "s" * 101, "body": "b" * (BODY_MAX_CHARACTERS + 1)}, {"source", "body"}),
        ({"source": "a\x00", "body": "\ud800"}, {"source", "body"}),
        ({"source": "s", "body": "b", "admin": True}, {"admin"}),
    ],
)
def test_message_that_cannot_be_taken_is_refused_by_field(client, sent, fields):
    answer = client.post(MESSAGES, json=sent)
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
    assert set(answer.json["errors"]) == fields
    assert client.get(MESSAGES).json["messages"] == []


def test_largest_message_fits_however_it_is_escaped(client):
    body = json.dumps({"source": "s", "body": "ü" * BODY_MAX_CHARACTERS}, ensure_ascii=True)
    assert client.post(MESSAGES, data=body, content_type="application/json").status_code == 201


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/api/v1/nothing", {}, 404),
        ("GET", f"{MESSAGES}/1", {}, 404),
        ("GET", f"{MESSAGES}/{2**63}", {}, 404),
        ("DELETE", MESSAGES, {}, 405),
        ("POST", MESSAGES, {"data": b"{", "content_type": "application/json"}, 400),
        ("POST", MESSAGES, {"data": b"\xff", "content_type": "application/json"}, 400),
        ("POST", MESSAGES, {"data": b"null", "content_type": "application/json"}, 400),
        ("POST", MESSAGES, {"data": b"a=1"}, 415),
        ("POST", MESSAGES, {"data": b" " * 600_000, "content_type": "application/json"}, 413),
        ("GET", f"{MESSAGES}?limit=0", {}, 400),
        ("GET", f"{MESSAGES}?limit=201", {}, 400),
        ("GET", f"{MESSAGES}?cursor=-1", {}, 400),
        ("GET", f"{MESSAGES}?cursor={2**63}", {}, 400),
        ("GET", f"{MESSAGES}?cursor=٣", {}, 400),
    ],
)
def test_every_error_is_a_problem_document(client, method, path, options, status):
    answer = client.open(path, method=method, **options)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert answer.json["status"] == status
    assert answer.json["title"]
    if status == 405:
        assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


def test_failure_inside_is_a_problem_that_tells_nothing(app, client, monkeypatch):
    with app.app_context():
        db.drop_all()
    answer = client.get(MESSAGES)
    assert (answer.status_code, answer.mimetype) == (500, "application/problem+json")
    assert "message" not in answer.json["detail"].lower().replace("messages", "")
    assert "SELECT" not in answer.text


def test_empty_pool_is_answered_try_again(client, monkeypatch):
    def no_connection(*args, **kwargs):
        raise PoolTimeout("QueuePool limit")

    monkeypatch.setattr(db.session, "scalars", no_connection)
    answer = client.get(MESSAGES)
    assert (answer.status_code, answer.headers["Retry-After"], answer.json["status"]) == (503, "1", 503)
