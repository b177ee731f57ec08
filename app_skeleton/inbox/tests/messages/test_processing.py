import time
from contextlib import suppress
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread
from types import SimpleNamespace

import pytest
from flask_ops.testing import eventually
from inbox.messages import inbox, processing, pruning, tasks
from inbox.messages.models import Attempt, ImportFile, Message, Tally
from inbox.messages.signatures import sign
from inbox.models import db, now
from sqlalchemy import func, select, update


@pytest.fixture
def downstream():
    """A service that answers as it is told, and remembers what it got."""
    told = SimpleNamespace(answers=[], got=[])

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            told.got.append((dict(self.headers), body))
            status, headers = told.answers.pop(0) if told.answers else (204, {})
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}/in"
    yield told
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def app(make_app, sender, downstream):
    app = make_app(
        WEBHOOK_SOURCES=sender.sources(),
        RELAY_URL=downstream.url,
        RELAY_SECRET=sender.secret,
        RELAY_ATTEMPTS_MAX=3,
    )
    with app.app_context():
        yield app
        db.session.remove()


def the_message():
    db.session.rollback()
    return db.session.scalar(select(Message).execution_options(populate_existing=True))


def outcomes():
    return [
        tuple(row)
        for row in db.session.execute(select(Attempt.number, Attempt.outcome).order_by(Attempt.number))
    ]


def counted():
    return db.session.scalar(select(func.sum(Tally.count)))


def test_message_is_handed_on_as_it_came_signed_and_with_a_key(app, client, sender, downstream):
    sender.github(client, "d-1", body=b'{"ref":  "\xc3\xa9"}')
    ((headers, body),) = downstream.got
    assert body == b'{"ref":  "\xc3\xa9"}'
    assert headers["Idempotency-Key"] == "github:d-1:0"
    assert headers["X-Inbox-Signature-256"] == f"sha256={sign(sender.secret, body)}"
    assert (headers["X-Inbox-Source"], headers["X-Inbox-Event"]) == ("github", "push")
    assert "X-Request-ID" in {name.title().replace("Id", "ID") for name in headers}


def test_passing_failure_is_tried_again_later_and_effect_comes_once(app, client, sender, downstream):
    downstream.answers = [(503, {}), (429, {"Retry-After": "77"})]
    sender.github(client)
    message = the_message()
    assert (message.status, message.processed_at, counted()) == ("failed", None, None)
    wait = (message.next_attempt_at - now()).total_seconds()
    assert 0 < wait <= processing.BACKOFF_FIRST_SECONDS
    retry()
    assert 70 < (the_message().next_attempt_at - now()).total_seconds() <= 77
    assert retry() == "done"
    assert processing.process(message.id, "test") == "skipped"
    assert (the_message().status, counted()) == ("done", 1)
    assert outcomes() == [(1, "failed"), (2, "failed"), (3, "done")]
    assert len({headers["Idempotency-Key"] for headers, _ in downstream.got}) == 1


def retry():
    """Have the time pass until the message is tried again, and try it."""
    db.session.execute(update(Message).values(next_attempt_at=now()))
    db.session.commit()
    assert processing.due(10) == [1]
    return processing.process(1, "test")


def test_task_that_comes_twice_is_no_try_before_its_time(app, client, sender, downstream):
    downstream.answers = [(429, {"Retry-After": "77"})]
    sender.github(client)
    assert [processing.process(1, "test") for _ in range(5)] == ["skipped"] * 5
    assert processing.due(10) == []
    assert (the_message().status, outcomes(), len(downstream.got)) == ("failed", [(1, "failed")], 1)


def test_retry_whose_task_is_lost_is_handed_out_again(app, client, sender, downstream):
    downstream.answers = [(503, {})]
    sender.github(client)
    for _ in range(3):
        db.session.execute(update(Message).values(next_attempt_at=now()))
        db.session.commit()
        assert processing.due(10) == [1]
        assert processing.due(10) == [], "not at once"
    assert processing.process(1, "test") == "done"
    assert outcomes() == [(1, "failed"), (2, "done")]


def test_refusal_is_not_tried_again(app, client, sender, downstream):
    downstream.answers = [(422, {})]
    sender.github(client)
    assert (the_message().status, counted()) == ("dead", None)
    assert db.session.scalar(select(Attempt.error)) == "The service at RELAY_URL answered 422."


def test_message_is_given_up_after_so_many_tries_and_replayed_with_as_many(app, client, sender, downstream):
    downstream.answers = [(500, {})] * 5
    sender.github(client)
    for _ in range(2):
        retry()
    assert the_message().status == "dead"
    assert inbox.replay_dead(10, "stripe") == []
    assert inbox.replay_dead(10) == [1]
    assert processing.process(1, "test") == "failed"
    assert retry() == "failed"
    assert retry() == "done"
    assert (counted(), the_message().attempt_count) == (1, 6)
    assert {headers["Idempotency-Key"] for headers, _ in downstream.got} == {"github:d-1:0", "github:d-1:1"}


def test_replay_of_what_was_done_hands_it_on_and_does_not_count_it_twice(app, client, sender, downstream):
    sender.github(client)
    assert inbox.replay([1, 2]) == [1]
    assert inbox.replay([1]) == [], "it waits already"
    assert processing.process(1, "test") == "done"
    assert (len(downstream.got), counted()) == (2, 1)


def keys(downstream):
    return [headers["Idempotency-Key"] for headers, _ in downstream.got]


def test_failed_message_that_is_tried_again_now_keeps_its_key(app, client, sender, downstream):
    downstream.answers = [(503, {})]
    sender.github(client)
    assert inbox.replay([1]) == [1]
    assert processing.process(1, "test") == "done"
    assert keys(downstream) == ["github:d-1:0"] * 2
    assert the_message().replay_count == 0


def test_messages_of_an_earlier_release_have_keys_of_their_own(app, downstream):
    for source in ("legacy", "legacy", "Ärger 漢", "%C3%84rger", "two\r\nlines"):
        db.session.add(Message(source=source, body="some text"))
    db.session.commit()
    for message_id in inbox.replay(range(1, 6)):
        assert processing.process(message_id, "test") == "done"
    assert keys(downstream) == [
        "legacy:message-1:1",
        "legacy:message-2:1",
        "%C3%84rger%20%E6%BC%A2:message-3:1",
        "%25C3%2584rger:message-4:1",
        "two%0D%0Alines:message-5:1",
    ]
    assert downstream.got[2][0]["X-Inbox-Source"] == "%C3%84rger%20%E6%BC%A2"


@pytest.fixture
def raw(app):
    """A service that answers in bytes, piece by piece, as long as anybody listens; it counts them."""
    told = SimpleNamespace(pieces=[], sent=0)

    class Handler(StreamRequestHandler):
        def handle(self):
            while self.rfile.readline().strip():
                pass
            with suppress(OSError):
                for piece, pause in told.pieces:
                    self.wfile.write(piece)
                    told.sent += len(piece)
                    time.sleep(pause)

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        Thread(target=server.serve_forever, daemon=True).start()
        app.config |= {
            "RELAY_URL": f"http://127.0.0.1:{server.server_address[1]}/",
            "RELAY_TIMEOUT_SECONDS": 1,
        }
        yield told
        server.shutdown()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"


def test_answer_that_drips_is_not_waited_for_longer_than_allowed(app, client, sender, raw):
    raw.pieces = [(HEAD[at : at + 1], 0.5) for at in range(20)]
    begin = time.monotonic()
    sender.github(client)
    assert time.monotonic() - begin < 3
    assert the_message().status == "failed"
    assert "did not answer: TimeoutError" in db.session.scalar(select(Attempt.error))


def test_body_of_an_answer_is_not_read_however_large_it_is_or_becomes(app, client, sender, raw):
    raw.pieces = [(HEAD, 0)] + [(b"\0" * 2**20, 0)] * 200
    sender.github(client)
    assert the_message().status == "done", "and no gzip was looked for"
    eventually(lambda: raw.sent, 5)
    assert raw.sent < 100 * 2**20, "what lies in buffers of the kernel"
    raw.pieces = [(HEAD, 0)] + [(b"\0", 0.9)] * 7
    begin = time.monotonic()
    sender.github(client, "d-2")
    assert time.monotonic() - begin < 1


def test_service_that_is_not_there_is_a_passing_failure(app, client, sender):
    app.config["RELAY_URL"] = "http://127.0.0.1:1/"
    sender.github(client)
    assert the_message().status == "failed"
    assert "ConnectError" in db.session.scalar(select(Attempt.error))


def test_defect_of_ours_is_tried_again_and_said_aloud(app, client, sender, monkeypatch):
    monkeypatch.setattr(processing.relay, "relay", lambda message: {}["absent"])
    sender.github(client)
    assert the_message().status == "failed"
    assert db.session.scalar(select(Attempt.error)) == "KeyError"


def lose_worker():
    """Leave the message as a worker does that is killed while it works."""
    db.session.execute(update(Message).values(status="processing", attempt_count=1, next_attempt_at=now()))
    db.session.execute(update(Attempt).values(outcome="running", ended_at=None))
    db.session.execute(Tally.__table__.delete())
    db.session.execute(update(Message).values(processed_at=None))
    db.session.commit()


def test_work_of_a_killed_worker_is_taken_over(app, client, sender):
    sender.github(client)
    lose_worker()
    assert processing.due(10) == [1]
    assert processing.process(1, "another") == "done"
    assert outcomes() == [(1, "lost"), (2, "done")]
    assert counted() == 1


def test_nobody_takes_over_while_the_worker_may_live(app, client, sender):
    sender.github(client)
    lose_worker()
    db.session.execute(update(Message).values(next_attempt_at=now() + processing.lease()))
    db.session.commit()
    assert processing.due(10) == []
    assert processing.process(1, "another") == "skipped"


def test_worker_that_was_given_up_and_lives_changes_nothing(app, client, sender, monkeypatch):
    def slow(message):
        if message.attempt_count == 1:
            db.session.execute(update(Message).values(next_attempt_at=now() - timedelta(seconds=1)))
            db.session.commit()
            assert processing.process(message.id, "another") == "done"

    monkeypatch.setattr(processing.relay, "relay", slow)
    sender.github(client)
    assert outcomes() == [(1, "lost"), (2, "done")]
    assert (the_message().status, counted()) == ("done", 1)


def test_message_that_kills_every_worker_is_given_up(app, client, sender):
    sender.github(client)
    lose_worker()
    db.session.execute(update(Message).values(attempt_count=3))
    db.session.commit()
    assert processing.process(1, "another") == "dead"
    assert (the_message().status, counted()) == ("dead", None)


def test_what_waits_is_handed_out_once_a_while(app, client, sender, monkeypatch):
    monkeypatch.setattr("inbox.tasks.send_soon", lambda *args: False)
    for number in range(3):
        sender.github(client, f"d-{number}")
    assert processing.due(10) == [], "the web app has only just handed them out"
    db.session.execute(update(Message).values(next_attempt_at=now()))
    db.session.commit()
    assert sorted(processing.due(2) + processing.due(2)) == [1, 2, 3]
    assert processing.due(10) == []


def test_beats_task_processes_what_nobody_did(app, client, sender, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("inbox.tasks.send_soon", lambda *args: False)
        sender.github(client)
    db.session.execute(update(Message).values(next_attempt_at=now()))
    db.session.commit()
    assert tasks.dispatch_due.apply().get() == 1
    assert (the_message().status, counted()) == ("done", 1)


def test_waits_grow_are_spread_and_end_somewhere():
    spread = {processing.backoff_seconds(1) for _ in range(50)}
    assert len(spread) > 40
    assert all(2.5 <= wait <= 5 for wait in spread)
    assert 10 <= processing.backoff_seconds(2) <= 20
    assert 1800 <= processing.backoff_seconds(10_000) <= 3600


def test_old_messages_that_are_done_are_pruned_and_those_given_up_are_not(app, client, sender, downstream):
    downstream.answers = [(204, {}), (422, {})]
    for number in range(3):
        sender.github(client, f"d-{number}")
    long_ago = now() - timedelta(days=91)
    old = update(Message).where(Message.id < 3)
    db.session.execute(old.values(received_at=long_ago))
    db.session.execute(old.where(Message.status == "done").values(processed_at=long_ago))
    for ended_at in (long_ago, None):
        db.session.add(
            ImportFile(name="f", storage_key="k", bytes_total=1, created_at=long_ago, ended_at=ended_at)
        )
    db.session.commit()
    assert pruning.prune() == 1
    assert db.session.scalars(select(ImportFile.ended_at)).all() == [None], "one that is not read yet stays"
    assert sorted(db.session.scalars(select(Message.id))) == [2, 3]
    assert sorted(db.session.scalars(select(Attempt.message_id))) == [2, 3]
    assert counted() == 2


def test_old_message_that_was_done_of_late_is_kept(app, client, sender, downstream):
    downstream.answers = [(422, {})]
    sender.github(client)
    db.session.execute(update(Message).values(received_at=now() - timedelta(days=200)))
    db.session.add(Message(source="legacy", body="text", received_at=now() - timedelta(days=200)))
    db.session.commit()
    inbox.replay([1])
    assert processing.process(1, "test") == "done"
    assert pruning.prune() == 1
    assert db.session.scalars(select(Message.source)).all() == ["github"], "one without that time goes"
