"""The pages about messages."""

import json
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from databases import counted
from inbox.messages import payloads
from inbox.messages.models import STATUSES, Attempt, Message
from inbox.messages.pages import PAGE_SIZE, in_words
from inbox.models import db, now
from markup import Page, faults
from sqlalchemy import update

MESSAGES = "/messages"


@pytest.fixture
def add(app):
    """Put a message into the database; return its id."""

    def add(status="done", attempts=0, body="{}", **values):
        with app.app_context():
            values = {"source": "github", "event": "push", "title": "push by alice", **values}
            message = Message(
                status=status, body=body, received_at=values.pop("received_at", now()), **values
            )
            db.session.add(message)
            db.session.flush()
            for number in range(1, attempts + 1):
                db.session.add(
                    Attempt(
                        message_id=message.id,
                        number=number,
                        began_at=now(),
                        outcome="failed",
                        worker="w-1",
                        error="503",
                    )
                )
            db.session.commit()
            return message.id

    return add


def listed(client, **query):
    answer = client.get(MESSAGES, query_string=query)
    assert answer.status_code == 200, answer.text
    return [int(number) for number in re.findall(r'<a href="/messages/(\d+)"', answer.text)]


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_every_page_can_be_used_by_everybody(client, sign_in, add, role):
    sign_in(role)
    client.application.config["PROVIDER_STATUS_URLS"] = {}
    ids = [add(status, attempts=2) for status in STATUSES]
    paths = [MESSAGES, f"{MESSAGES}?q=nothing", f"{MESSAGES}?since=x&status=y", f"{MESSAGES}/providers"]
    paths += [f"{MESSAGES}/{message_id}" for message_id in ids]
    paths += [f"{MESSAGES}/replay-dead"] * (role == "operator")
    for path in paths:
        assert faults(client.get(path).text) == [], path


@pytest.mark.parametrize("path", ["/messages", "/messages/1", "/messages/1/body", "/messages/providers"])
def test_nobody_sees_anything(client, path):
    assert client.get(path).headers["Location"].startswith("/auth/sign-in")


@pytest.mark.parametrize(
    ("path", "current"),
    [
        ("/messages", "page"),
        ("/messages?status=dead", "page"),
        ("/files/imports/new", "true"),
        ("/files/imports", "page"),
        ("/admin/health", "page"),
    ],
)
def test_navigation_says_where_one_is(client, sign_in, path, current):
    sign_in("operator")
    links = [
        attributes
        for tag, attributes, around in Page(client.get(path).text).elements
        if tag == "a" and around[-2:] == ("div", "nav")
    ]
    assert len(links) >= 5
    here = [link for link in links if "aria-current" in link]
    assert [(link["href"], link["aria-current"]) for link in here] == [
        (path.split("?")[0].removesuffix("/new"), current)
    ]


def test_page_below_two_places_belongs_to_the_nearer_one(client, sign_in):
    sign_in("viewer")
    app = client.application
    app.config["PROVIDER_STATUS_URLS"] = {}
    page = client.get("/messages/providers").text
    assert 'href="/messages/providers" aria-current="page"' in page
    assert 'href="/messages" aria-current' not in page


@pytest.mark.parametrize(("path", "status"), [("/messages/9", 404), ("/messages?cursor=x", 400)])
def test_message_that_is_not_there_is_an_error_page(client, sign_in, path, status):
    sign_in("viewer")
    answer = client.get(path, headers={"X-Request-ID": "req-1"})
    assert (answer.status_code, answer.mimetype) == (status, "text/html")
    assert "<code>req-1</code>" in answer.text


def test_number_of_queries_does_not_hang_on_the_number_of_rows(app, client, sign_in, add):
    sign_in("viewer")
    counts = {}
    for rows in (3, 60):
        ids = [add(status, attempts=1) for status in STATUSES * (rows // 3)]
        many = add(attempts=rows)
        for path in (MESSAGES, f"{MESSAGES}?status=done", f"{MESSAGES}/{many}", f"{MESSAGES}/{ids[0]}"):
            with counted(app) as seen:
                assert client.get(path).status_code == 200
            counts.setdefault(re.sub(r"\d+", "n", path), set()).add(len(seen))
    assert counts == {"/messages": {3}, "/messages?status=done": {3}, "/messages/n": {3}}


def test_filters_find_what_they_say(client, sign_in, add):
    sign_in("viewer")
    begin = datetime(2026, 9, 1, 12, tzinfo=UTC)
    old = add(received_at=begin - timedelta(seconds=1), delivery_id="d-old")
    dead = add("dead", received_at=begin, event="issues", title="issues opened 100% by bob")
    new = add(received_at=begin + timedelta(hours=1), source="elsewhere")
    assert listed(client) == [new, dead, old]
    assert listed(client, status="dead") == [dead]
    assert listed(client, event=" issues ") == [dead]
    assert listed(client, source="elsewhere") == [new]
    assert listed(client, q="d-old") == [old]
    assert listed(client, q="0% BY") == [dead]
    assert listed(client, since="2026-09-01T12:00") == [new, dead]
    assert listed(client, until="2026-09-01T12:00:00") == [old]
    assert listed(client, since="2026-09-01", until="2026-09-01T14:00+02:00") == [old]
    assert listed(client, source="", status="", q=" ", cursor="") == [new, dead, old]
    assert listed(client, q="nothing") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "odd"}, "status"),
        ({"q": "q" * 101}, "q"),
        ({"q": "a\0"}, "q"),
        ({"event": "e" * 256}, "event"),
        ({"source": "s" * 256}, "source"),
        ({"since": "yesterday"}, "since"),
        ({"until": "0001-01-01T00:00+14:00"}, "until"),
    ],
)
def test_filter_that_is_not_understood_is_said_at_its_field(client, sign_in, query, field):
    sign_in("viewer")
    answer = client.get(MESSAGES, query_string=query)
    assert answer.status_code == 400
    assert f'href="#{field}"' in answer.text
    assert f'aria-describedby="{field}-error" aria-invalid="true"' in answer.text
    assert "<details open>" in answer.text or field == "q"
    assert "<table" not in answer.text


def test_pages_of_the_list_keep_the_filters(client, sign_in, add):
    sign_in("viewer")
    wanted = [add(title=f"order {number} & more") for number in range(PAGE_SIZE + 1)]
    add(title="something else")
    first = client.get(MESSAGES, query_string={"q": "& more", "since": "2026-01-01T00:00"}).text
    older = re.search(r'<a href="([^"]+)" rel="next"', first)[1].replace("&amp;", "&")
    second = client.get(older).text
    assert re.findall(r'<a href="/messages/(\d+)"', second) == [str(wanted[0])]
    newest = re.search(r'<a href="([^"]+)" rel="prev"', second)[1].replace("&amp;", "&")
    # All but the form's token, which carries the time.
    ids = [re.findall(r'<a href="/messages/(\d+)"', page) for page in (client.get(newest).text, first)]
    assert ids[0] == ids[1] == [str(number) for number in reversed(wanted[1:])]
    export = re.search(r'<a href="(/files/messages.csv[^"]+)"', second)[1]
    assert "q=%26+more&amp;since=2026-01-01T00:00" in export


def test_query_of_a_stranger_changes_no_address(client, sign_in, add):
    sign_in("viewer")
    for _ in range(PAGE_SIZE + 1):
        add()
    query = {
        "_external": "1",
        "_scheme": "javascript",
        "_anchor": "x",
        "endpoint": "auth.sign_in",
        "q": "push",
    }
    page = client.get(MESSAGES, query_string=query).text
    assert "javascript" not in page
    assert 'href="/messages?cursor=2&amp;q=push" rel="next"' in page


def test_end_of_the_list_leads_back(client, sign_in, add):
    sign_in("viewer")
    add()
    page = client.get(MESSAGES, query_string={"cursor": "1", "status": "done"}).text
    assert "no messages older than these" in page
    assert 'href="/messages?status=done"' in page


def test_page_before_the_first_message_tells_an_operator_how_to_send_one(client, sign_in, sender):
    sign_in("operator")
    # As nginx tells it.
    forwarded = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "in.example",
    }
    page = client.get(MESSAGES, headers=forwarded).text
    for name in ("github", "stripe"):
        assert f"curl https://in.example/hooks/{name}" in page
    assert sender.secret not in page
    assert "<table" not in page


def test_page_before_the_first_message_tells_a_viewer_to_wait(client, sign_in):
    sign_in("viewer")
    page = client.get(MESSAGES).text
    assert "operator's work" in page.replace("&#39;", "'")
    assert "openssl" not in page


def test_source_without_a_secret_is_told_and_gets_no_commands(client, sign_in):
    sign_in("operator")
    sources = client.application.config["WEBHOOK_SOURCES"]
    client.application.config["WEBHOOK_SOURCES"] = {
        name: type(source)(name, source.scheme, ()) for name, source in sources.items()
    }
    page = client.get(MESSAGES).text
    assert "webhook_github" in page
    assert "openssl" not in page


def test_what_strangers_wrote_is_shown_as_text(client, sign_in, add):
    sign_in("operator")
    evil = '"><script>alert(1)</script><a href="javascript:x">'
    message_id = add(
        "dead",
        attempts=1,
        title=evil,
        event=evil,
        source=evil,
        delivery_id=evil,
        body=json.dumps({evil: evil}),
    )
    with client.application.app_context():
        db.session.execute(update(Attempt).values(error=evil, worker=evil))
        db.session.commit()
    for path in (MESSAGES, f"{MESSAGES}?q=script&event={evil}", f"{MESSAGES}/{message_id}"):
        answer = client.get(path)
        assert "&lt;script&gt;" in answer.text
        assert faults(answer.text) == []
        assert all(not link["href"].startswith("javascript") for link in Page(answer.text).all("a"))


def test_message_shows_its_facts_attempts_and_times_in_utc(client, sign_in, sender):
    sign_in("viewer")
    body = json.dumps({"ref": "refs/heads/main", "sender": {"login": "alice"}}).encode()
    message_id = sender.github(client, "delivery-1", "push", body).json["id"]
    page = client.get(f"{MESSAGES}/{message_id}").text
    assert "<title>push refs/heads/main by alice · Messages · Inbox</title>" in page
    assert "<dt>Delivery id</dt><dd><code>delivery-1</code></dd>" in page
    assert 'state-done">Done</span>' in page
    assert page.count("<tr>") == 2
    for written, shown in re.findall(r'<time datetime="([^"]+)">([^<]+)</time>', page):
        moment = datetime.strptime(written, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        assert abs(time.time() - moment.timestamp()) < 60
        assert shown == f"{moment:%Y-%m-%d %H:%M:%S}&nbsp;UTC"


def test_body_is_given_for_keeping_and_not_for_showing(client, sign_in, sender):
    sign_in("viewer")
    body = '{"html":  "<b>Ärger</b>", "n": 1.10}'.encode()
    message_id = sender.github(client, body=body).json["id"]
    answer = client.get(f"{MESSAGES}/{message_id}/body")
    assert answer.data == body
    assert answer.content_type == "text/plain; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="message-{message_id}.txt"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert client.get(f"{MESSAGES}/{2**63}/body").status_code == 404


@pytest.mark.parametrize(
    ("role", "status", "shown"),
    [
        ("viewer", "dead", False),
        ("operator", "dead", True),
        ("admin", "done", True),
        ("operator", "pending", False),
        ("operator", "processing", False),
        ("operator", "failed", True),
    ],
)
def test_replay_is_offered_to_who_may_where_it_does_something(client, sign_in, add, role, status, shown):
    sign_in(role)
    message_id = add(status)
    assert (f'action="/messages/{message_id}/replay"' in client.get(f"{MESSAGES}/{message_id}").text) == shown


def test_replay_processes_again_and_a_viewer_may_not(client, sign_in, add, app):
    message_id = add("dead")
    sign_in("viewer")
    assert client.post(f"{MESSAGES}/{message_id}/replay").status_code == 403
    assert client.post(f"{MESSAGES}/replay-dead").status_code == 403
    assert client.get(f"{MESSAGES}/replay-dead").status_code == 403
    client.post("/auth/sign-out")
    sign_in("operator")
    answer = client.post(f"{MESSAGES}/{message_id}/replay", follow_redirects=True)
    assert "is being processed again" in answer.text
    with app.app_context():
        assert db.session.get(Message, message_id).status == "done"


def test_replay_of_nothing_says_so(client, sign_in, add):
    sign_in("operator")
    message_id = add("pending")
    answer = client.post(f"{MESSAGES}/{message_id}/replay", follow_redirects=True)
    assert "nothing was changed" in answer.text


def test_replaying_all_that_was_given_up_is_asked_with_its_number(client, sign_in, add):
    sign_in("operator")
    assert "No message is given up" in client.get(f"{MESSAGES}/replay-dead").text
    add("dead")
    assert "Replay it" in client.get(f"{MESSAGES}/replay-dead").text
    add("dead")
    page = client.get(f"{MESSAGES}/replay-dead").text
    assert "2 messages were given up" in page
    assert "Replay 2 messages" in page
    assert "come back" not in page
    assert 'href="/messages/replay-dead"' in client.get(f"{MESSAGES}?status=dead").text
    answer = client.post(f"{MESSAGES}/replay-dead", follow_redirects=True)
    assert "2 messages are being processed again." in answer.text
    assert listed(client, status="dead") == []


@pytest.mark.parametrize("path", ["/messages/1/replay", "/messages/replay-dead"])
def test_forged_form_changes_nothing(app, client, sign_in, add, path):
    add("dead")
    sign_in("operator")
    app.config["WTF_CSRF_ENABLED"] = True
    assert client.post(path).status_code == 400
    assert listed(client, status="dead") == [1]


def test_json_is_laid_out_without_changing_a_token():
    body = '{"a":1.10,"a": 1e999, "deep" : [ {}, [ ], {"s": "x, \\"y\\": {\\u00e4}"}], "n":null}'
    found = payloads.shown(body)
    assert found.text.splitlines() == [
        "{",
        '  "a": 1.10,',
        '  "a": 1e999,',
        '  "deep": [',
        "    {},",
        "    [],",
        "    {",
        '      "s": "x, \\"y\\": {\\u00e4}"',
        "    }",
        "  ],",
        '  "n": null',
        "}",
    ]
    assert (found.is_json, found.is_cut) == (True, False)


@pytest.mark.parametrize("body", ["", "plain text", "{", '{"a": }', "[" * 100_000, "\ufeff{}"])
def test_what_is_no_json_is_shown_as_it_is(body):
    found = payloads.shown(body)
    assert (found.is_json, found.text) == (False, body[: payloads.SHOWN_MAX_CHARACTERS])


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"a": "x" * 1_000_000}),
        "[" * 900 + "1," * 400_000 + "1" + "]" * 900,
        '{"a": ' + "9" * 900_000 + "}",
        json.dumps(["\\" * 300_000]),
    ],
    ids=["long text", "deep and wide", "long number", "backslashes"],
)
def test_large_body_is_cut_at_once(body):
    began = time.process_time()
    found = payloads.shown(body)
    assert (len(found.text), found.is_json, found.is_cut) == (payloads.SHOWN_MAX_CHARACTERS, True, True)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.6, "1 min"), (3661, "1 h 1 min"), (90_061, "1 d 1 h"), (86_400, "1 d")],
)
def test_durations_are_said_in_two_units(seconds, words):
    assert in_words(seconds) == words
