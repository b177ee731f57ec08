"""What the watchdog does to whom, without a server and without a strike: see test_ops_deadline for those."""

import json
import os
import signal
import socket
import sys
import threading
import time
from types import SimpleNamespace

import gevent
import greenlet
import pytest
from flask_ops import deadline, rescue, watchdog
from flask_ops.deadline import Call, DeadlineExceeded, Guarded
from flask_ops.watchdog import Watchdog


class Ended(BaseException):
    """Instead of the end of the process."""


@pytest.fixture(autouse=True)
def harmless(monkeypatch):
    """Note what would strike or end this process."""
    done = SimpleNamespace(aimed=[], signals=[], said=[])

    def end(code):
        raise Ended(code)

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(
        watchdog, "_aim", lambda thread, what: done.aimed.append((thread.value, what is not None))
    )
    monkeypatch.setattr(signal, "pthread_kill", lambda thread, number: done.signals.append(thread))
    monkeypatch.setattr(rescue, "_write", lambda line: done.said.append(json.loads(line)))
    yield done
    deadline.running.clear()
    deadline.on_timeout.clear()
    deadline.enforce(0, lambda: None, lambda guarded: None)


@pytest.fixture
def worker():
    return SimpleNamespace(alive=True, cfg=SimpleNamespace(graceful_timeout=30))


def dog(worker, *, seconds=1, blocked=0.5, hub=None):
    made = Watchdog(worker, seconds, blocked, hub)
    deadline.enforce(seconds, lambda: None, made._take_back)
    return made


def overdue(where, seconds=1.5, environ=None):
    """Return something that has run for `seconds`."""
    if environ is None:
        guarded = Guarded(where)
    else:
        guarded = Call(
            {"REQUEST_METHOD": "GET", "HTTP_X_REQUEST_ID": "id-1", "PATH_INFO": "/x", **environ}, None
        )
        guarded.where = where
    guarded.since = time.monotonic() - seconds
    deadline.running.add(guarded)
    return guarded


@pytest.fixture
def thread(monkeypatch):
    """A thread that runs guarded code."""
    stop, ident = threading.Event(), []

    def guarded_code():
        ident.append(threading.get_ident())
        stop.wait(10)

    monkeypatch.setattr(deadline, "entries", {guarded_code.__code__})
    running = threading.Thread(target=guarded_code)
    running.start()
    while not ident:
        time.sleep(0.01)
    yield ident[0]
    stop.set()
    running.join()


@pytest.fixture
def waiting_greenlet():
    waiting = greenlet.greenlet(lambda: greenlet.getcurrent().parent.switch())
    waiting.switch()
    return waiting


@pytest.fixture
def connection():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield SimpleNamespace(environ={"gunicorn.socket": ours}, client=theirs)


def test_thread_in_the_app_is_aimed_at_and_the_worker_recycled(worker, thread, harmless):
    guarded = overdue(thread)
    dog(worker)._look(time.monotonic())
    assert harmless.aimed == [(thread, True)]
    assert not worker.alive
    guarded.leave()
    # Taken back: it may not strike what comes after.
    assert harmless.aimed == [(thread, True), (thread, False)]
    assert (guarded.since, guarded.first) == (0, 0)


def test_thread_outside_of_the_app_is_not_aimed_at(worker, thread, harmless, monkeypatch):
    monkeypatch.setattr(deadline, "entries", set())
    overdue(thread)
    dog(worker)._look(time.monotonic())
    assert harmless.aimed == []
    assert worker.alive


def test_thread_that_left_meanwhile_is_not_aimed_at(worker, thread, harmless):
    guarded = overdue(thread)
    since, guarded.since = guarded.since, 0
    dog(worker)._look_at(guarded, since, time.monotonic())
    assert harmless.aimed == []
    assert guarded.first == 0


def test_thread_that_does_not_end_is_answered_for_and_only_then_ended(worker, thread, connection, harmless):
    guarded = overdue(thread, environ=connection.environ)
    told = []
    deadline.on_timeout.append(lambda: told.append(1))
    watching = dog(worker)
    now = time.monotonic()
    watching._look(now)
    watching._look(now + 1.1)
    head, _, body = connection.client.recv(10_000).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"X-Request-ID: id-1" in head
    assert b"took longer" in body
    assert connection.client.recv(1) == b""
    assert [line["event"] for line in harmless.said][-1] == "request given up: it does not end"
    assert "in guarded_code" in harmless.said[-1]["stack"]
    worker.nr_conns = 2
    watching._look(now + 4)
    worker.nr_conns = 1
    with pytest.raises(Ended):
        watching._look(now + 4)
    assert told == [1]
    rescue.answer(guarded)
    assert told == [1]


def test_recycled_worker_that_outlives_its_graceful_time_is_ended(worker):
    watching = dog(worker)
    watching._recycle()
    watching._look(time.monotonic() + 25)
    with pytest.raises(Ended):
        watching._look(time.monotonic() + 32)


def test_main_thread_is_signalled_and_in_the_end_the_worker_ended(worker, connection, harmless):
    main = threading.get_ident()
    overdue(main, environ={**connection.environ, "REQUEST_METHOD": "HEAD"})
    watching = dog(worker)
    now = time.monotonic()
    watching._look(now)
    assert harmless.signals == [main]
    with pytest.raises(Ended):
        watching._look(now + 1.1)
    # An answer to HEAD has no body.
    assert connection.client.recv(10_000).endswith(b"\r\n\r\n")
    assert harmless.said[-1]["lost"] == 1


def test_answer_that_has_begun_is_cut(connection):
    call = overdue(1, environ=connection.environ)
    call.head_sent = True
    rescue.answer(call)
    assert connection.client.recv(1) == b""


@pytest.mark.parametrize("where", ["nowhere", "closed", "gone"])
def test_connection_that_cannot_be_answered_is_let_be(connection, where):
    if where == "closed":
        connection.environ["gunicorn.socket"].close()
    elif where == "gone":
        connection.environ["gunicorn.socket"].shutdown(socket.SHUT_RDWR)
    else:
        connection.environ.clear()
    call = overdue(1, environ=connection.environ)
    rescue.answer(call)
    assert call.answered
    rescue.answer(Guarded(1))


def test_signal_strikes_the_main_threads_overdue_request_alone(worker):
    watching = dog(worker)
    watching._on_signal(0, None)
    guarded = overdue(threading.get_ident(), seconds=0.1)
    watching._on_signal(0, None)
    assert worker.alive
    guarded.since -= 2
    with pytest.raises(DeadlineExceeded):
        watching._on_signal(0, None)
    assert guarded.first
    assert not worker.alive


def in_greenlet(call):
    """Run it in a greenlet of its own; return what it raised."""

    def run():
        try:
            call()
        except DeadlineExceeded as error:
            return error

    return greenlet.greenlet(run).switch()


def test_signal_strikes_no_hub_and_nobody_elses_greenlet(worker):
    hub = SimpleNamespace()
    watching = dog(worker, hub=hub)
    watching._beat -= 10
    # The main greenlet is gunicorn's own.
    watching._on_signal(0, None)

    def as_hub():
        watching._hub = greenlet.getcurrent()
        watching._on_signal(0, None)

    assert in_greenlet(as_hub) is None
    watching._hub = hub

    def as_young_request():
        overdue(greenlet.getcurrent(), seconds=0.1)
        watching._on_signal(0, None)

    assert in_greenlet(as_young_request) is None
    assert worker.alive
    # A greenlet of nobody that has held the hub for as long.
    assert in_greenlet(lambda: watching._on_signal(0, None)) is not None
    watching._beat = time.monotonic()
    assert in_greenlet(lambda: watching._on_signal(0, None)) is None


def test_blocked_hub_is_said_once_a_block_and_interrupted_after_the_deadline(worker, harmless):
    watching = dog(worker, hub=object())
    running = overdue(greenlet.getcurrent(), seconds=0)
    now = watching._beat + 0.7
    watching._look(now)
    watching._look(now + 0.1)
    assert [line["event"] for line in harmless.said] == ["the gevent hub is blocked"]
    assert harmless.signals == []
    watching._look(now + 0.5)
    assert len(harmless.signals) == 1
    assert running.first
    # Forgiven, as after a time in which the process was starved: the same block is not said twice.
    watching._beat = now + 0.6
    watching._look_at_hub(now + 0.7)
    assert watching._first_signal == 0
    watching._look_at_hub(now + 1.3)
    assert len(harmless.said) == 1
    running.leave()
    watching._hub_runs()
    watching._look_at_hub(watching._beat + 0.7)
    assert len(harmless.said) == 2


def test_request_that_waits_while_another_blocks_the_hub_is_not_given_up(worker, waiting_greenlet, harmless):
    watching = dog(worker, hub=object())
    guarded = overdue(waiting_greenlet)
    now = time.monotonic()
    watching._beat = now - 0.3
    watching._look(now)
    watching._beat = now + 0.1
    watching._look(now + 1.2)
    assert not guarded.given_up
    watching._beat = now + 1.2
    watching._look(now + 1.3)
    assert guarded.given_up
    assert not worker.alive


def test_hub_throws_into_what_is_overdue_and_still_there(worker):
    thrown = []

    class Hub:
        loop = SimpleNamespace(run_callback=lambda call, *arguments: call(*arguments))

    watching = dog(worker, hub=Hub())
    where = SimpleNamespace(throw=thrown.append)
    overdue(where)
    overdue(where, seconds=0.1)
    overdue(threading.get_ident())
    watching._hub_runs()
    assert [type(error) for error in thrown] == [DeadlineExceeded]
    watching._throw(overdue(where), since=1)
    assert len(thrown) == 1


def watch(watching, monkeypatch, *looks):
    """Run the watchdog's loop for as many looks, each of which does something."""
    left = iter(looks)

    def look(now):
        next(left, lambda: sys.exit())()

    monkeypatch.setattr(watching, "_look", look)
    watching._tick = 0.01
    with pytest.raises(SystemExit):
        watching._watch()


def test_watchdog_survives_its_own_mistakes(worker, monkeypatch, harmless):
    watch(dog(worker), monkeypatch, lambda: {}["absent"])
    assert "KeyError" in harmless.said[0]["exception"]


def test_pause_of_the_whole_process_is_no_block(worker, monkeypatch):
    watching = dog(worker, hub=object())
    monkeypatch.setattr(watchdog, "_PAUSE_SECONDS", 0.1)
    watching._beat = before = watching._beat - 10
    watch(watching, monkeypatch, lambda: time.sleep(0.3))
    # The nap above was in the look; the loop sees it as a late tick without work.
    assert watching._beat in (before, pytest.approx(time.monotonic(), abs=1))


@pytest.mark.parametrize(
    ("seconds", "blocked", "starts"), [("0", "0", False), ("0", "1", False), ("1", "0", True)]
)
def test_watchdog_starts_only_where_there_is_something_to_watch(
    monkeypatch, worker, seconds, blocked, starts
):
    monkeypatch.setenv("FLASK_OPS_REQUEST_DEADLINE_SECONDS", seconds)
    monkeypatch.setenv("FLASK_OPS_BLOCKED_SECONDS", blocked)
    begun = []
    monkeypatch.setattr(Watchdog, "start", lambda self: begun.append(self))
    watchdog.start(worker)
    assert bool(begun) is starts


def test_watchdog_under_gevent_watches_its_hub(monkeypatch, worker):
    monkeypatch.setattr(watchdog, "patched", lambda: True)
    monkeypatch.setattr(watchdog, "original", lambda module, name: lambda *arguments: 1)
    monkeypatch.setattr(Watchdog, "_watch", lambda self: None)
    before = signal.getsignal(signal.SIGRTMAX)
    try:
        watchdog.start(worker)
        assert deadline._here() is greenlet.getcurrent()
        gevent.sleep(0)
    finally:
        signal.signal(signal.SIGRTMAX, before)
