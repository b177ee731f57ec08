"""Celery as it is deployed: a worker of its own, Redis and PostgreSQL that are real, and what goes wrong."""

import signal
import socket
import time

import pytest
from celery_stack import running
from flask_ops.testing import eventually
from inbox import outbox, tasks
from inbox.models import db


@pytest.fixture(scope="module")
def stack(postgresql_server):
    with running(postgresql_server) as stack:
        yield stack


@pytest.fixture(autouse=True)
def nothing_held(request):
    yield
    if "stack" in request.fixturenames:
        request.getfixturevalue("stack").downstream.go.set()


def test_request_id_goes_along_with_the_task(stack):
    worker, counted = stack.worker(), stack.counted()
    message = stack.receive("id", **{"X-Request-ID": "req-from-nginx"})
    eventually(lambda: stack.is_done(message), 20)
    (line,) = eventually(lambda: lines_about(worker, message), 10)
    assert line["request_id"] == "req-from-nginx"
    assert line["task"] == "messages.process"
    assert stack.counted() == counted + 1


def lines_about(worker, message):
    return [line for line in worker.said("message processed") if line["message_id"] == message]


def test_worker_that_is_stopped_finishes_what_it_has_and_leaves_the_rest(stack):
    worker, counted = stack.worker(), stack.counted()
    stack.hold()
    running = stack.receive("running")
    eventually(lambda: stack.asked(running), 20)
    waiting = stack.receive("waiting")
    worker.process.send_signal(signal.SIGTERM)
    worker.wait_for("Warm shutdown", 20)
    assert stack.status(running) == "processing"
    stack.downstream.go.set()
    assert worker.process.wait(30) == 0
    assert (stack.status(running), stack.status(waiting)) == ("done", "pending")
    stack.worker()
    eventually(lambda: stack.is_done(waiting), 20)
    assert stack.counted() == counted + 2
    assert (stack.asked(running), stack.asked(waiting)) == (1, 1)


def test_worker_that_is_killed_is_followed_by_one_that_does_it_once(stack):
    worker, counted = stack.worker(), stack.counted()
    stack.hold()
    message = stack.receive("killed")
    eventually(lambda: stack.asked(message), 20)
    worker.kill()
    assert stack.status(message) == "processing"
    stack.downstream.go.set()
    stack.worker()
    stack.make_due()
    stack.dispatch()
    eventually(lambda: stack.is_done(message), 20)
    assert stack.counted() == counted + 1
    attempts = stack.ask("SELECT outcome FROM attempt WHERE message_id = %s ORDER BY number", message)
    assert attempts == [("lost",), ("done",)]
    assert stack.asked(message) == 2, "under one key: the other side can tell that it is the same"


def test_redis_that_restarts_again_and_again_loses_nothing(stack):
    worker, counted = stack.worker(), stack.counted()
    messages, begin = [], time.monotonic()
    for number in range(3):
        messages.append(stack.receive(f"before-{number}"))
        stack.redis.kill()
        messages.append(stack.receive(f"while-{number}"))
        # Away for a moment, back for a moment: three times in ten seconds.
        time.sleep(1)
        stack.redis.start()
        messages.append(stack.receive(f"after-{number}"))
        time.sleep(1)
    assert time.monotonic() - begin < 15
    eventually(lambda: stack.app.extensions["celery_pause"]["until"] < time.monotonic(), 10)
    fresh = stack.receive("fresh")
    try:
        eventually(lambda: stack.is_done(fresh), 30)
    except AssertionError as error:
        raise AssertionError(worker.output.read_text()) from error
    stack.make_due()
    stack.dispatch()
    for message in messages:
        eventually(lambda message=message: stack.is_done(message), 30)
    assert stack.counted() == counted + len(messages) + 1
    assert worker.process.poll() is None, "it is the same worker"


@pytest.mark.parametrize("away", ["pause", "kill"])
def test_redis_that_is_away_costs_no_request_anything_and_has_its_tasks_when_it_is_back(stack, away):
    stack.worker()
    stack.receive(f"{away}-0")
    getattr(stack.redis, away)()
    times, messages = [], []
    for number in range(1, 6):
        begin = time.monotonic()
        messages.append(stack.receive(f"{away}-{number}"))
        times.append(time.monotonic() - begin)
    stack.redis.resume() if away == "pause" else stack.redis.start()
    assert max(times) < tasks.SEND_TIMEOUT_SECONDS, times
    # Nobody dispatches here: they are sent by the process that took them.
    for message in messages:
        eventually(lambda message=message: stack.is_done(message), outbox.KEEP_SECONDS)


DISPATCHED = "Task messages.dispatch_due"


def test_beats_tasks_do_not_stand_behind_messages(stack):
    worker = stack.worker()
    stack.hold()
    running = stack.receive("slow")
    eventually(lambda: stack.asked(running), 20)
    behind = [stack.receive(f"behind-{number}") for number in range(20)]
    celery = stack.app.extensions["celery"]
    with stack.app.app_context():
        eventually(lambda: tasks.waiting(celery.tasks["messages.process"]) == len(behind), 10)
        assert tasks.send(celery.tasks["messages.dispatch_due"])
    stack.downstream.go.set()
    for message in behind:
        eventually(lambda message=message: stack.is_done(message), 20)
    eventually(lambda: worker.said(DISPATCHED), 20)
    told = [line["event"] for line in worker.logs()]
    at = next(at for at, event in enumerate(told) if DISPATCHED in event)
    # One message was being worked on, and one may have been taken next.
    assert told[at:].count("message processed") >= len(behind) - 1


@pytest.fixture
def silent():
    """An address that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(8)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("url", ["amqp://inbox:x@{}//", "redis://{}/0"])
@pytest.mark.parametrize("refuses", [True, False])
def test_sending_to_a_broker_that_is_away_ends_soon(make_app, silent, url, refuses):
    # Port 1 is reserved and refuses at once.
    app = make_app(BROKER_URL=url.format("127.0.0.1:1" if refuses else silent))
    task = app.extensions["celery"].tasks["messages.prune"]
    with app.app_context():
        begin = time.monotonic()
        assert tasks.send(task) is False
        assert time.monotonic() - begin < 3 * tasks.SEND_TIMEOUT_SECONDS
        begin = time.monotonic()
        assert tasks.send(task) is False, "nobody asks it for a while"
        assert time.monotonic() - begin < 0.1


def test_worker_waits_for_its_broker_longer_than_a_request_does(make_app):
    celery = make_app(BROKER_URL="redis://127.0.0.1:1/0").extensions["celery"]
    assert celery.conf.broker_transport_options["socket_timeout"] == tasks.SEND_TIMEOUT_SECONDS
    tasks.for_worker(celery)
    assert "socket_timeout" not in celery.conf.broker_transport_options
    assert celery.conf.broker_transport_options["visibility_timeout"] > celery.conf.task_time_limit


def test_process_of_a_pool_leaves_its_parents_database_connections_to_it(make_app):
    app = make_app(SQLALCHEMY_DATABASE_URI="sqlite://")
    with app.app_context():
        before = db.engine.pool
        tasks._forget_connections()
        assert db.engine.pool is not before


def test_task_that_cannot_be_sent_for_a_reason_of_ours_is_not_called_the_brokers_fault(make_app):
    app = make_app()
    with app.app_context(), pytest.raises(TypeError):
        tasks.send(app.extensions["celery"].tasks["messages.process"])
