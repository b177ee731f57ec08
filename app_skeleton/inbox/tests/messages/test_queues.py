"""Where tasks wait, and that they do not become more and more."""

from datetime import timedelta

import pytest
from inbox import tasks
from inbox.messages import tasks as domain
from inbox.messages.models import Message
from inbox.models import db, now
from kombu.exceptions import OperationalError
from sqlalchemy import update


@pytest.fixture
def app(make_app, sender):
    """The app with a broker in this process, and no worker."""
    app = make_app(WEBHOOK_SOURCES=sender.sources(), BROKER_URL="memory://")
    with app.app_context():
        app.extensions["celery"].control.purge()
        yield app
        app.extensions["celery"].control.purge()
        db.session.remove()


def add_due(count):
    """Add messages that wait, and of which nobody was told."""
    past = now() - timedelta(seconds=1)
    for number in range(count):
        db.session.add(Message(source=f"s{number}", body="{}", status="pending", next_attempt_at=past))
    db.session.commit()


def test_messages_and_what_beat_asks_for_wait_in_queues_of_their_own(app):
    celery = app.extensions["celery"]
    upkeep = {entry["task"] for entry in celery.conf.beat_schedule.values()} | {"messages.read_import"}
    ours = {name for name in celery.tasks if name.startswith("messages.")}
    assert ours - upkeep == {"messages.process"}
    for name in ours:
        assert tasks.send(celery.tasks[name], *([1] if name.endswith(("process", "import")) else []))
    assert tasks.waiting(domain.process) == 1
    assert tasks.waiting(domain.prune) == len(upkeep)
    assert set(celery.amqp.queues.consume_from) == {"inbox", "inbox-upkeep"}, "a worker is told of none"


def test_beats_task_is_good_for_longer_than_clocks_differ(app):
    celery = app.extensions["celery"]
    assert min(entry["options"]["expires"] for entry in celery.conf.beat_schedule.values()) >= 300


def test_tasks_that_nobody_comes_to_do_not_become_more_and_more(app, monkeypatch):
    monkeypatch.setattr(domain, "WAITING_MAX", 5)
    add_due(4)
    handed_out = []
    for _ in range(4):
        handed_out.append(domain.dispatch_due())
        db.session.execute(update(Message).values(next_attempt_at=now() - timedelta(seconds=1)))
        db.session.commit()
    assert handed_out == [4, 1, 0, 0]
    assert tasks.waiting(domain.process) == 5
    app.extensions["celery"].control.purge()
    assert domain.dispatch_due() == 4


def test_broker_that_does_not_say_how_much_waits_is_no_failure(app, monkeypatch):
    def away(*args, **kwargs):
        raise OperationalError("no broker")

    with monkeypatch.context() as patched:
        patched.setattr("kombu.Queue.queue_declare", away)
        assert tasks.waiting(domain.process) == 0
    assert tasks.send(domain.process, 1)
    assert tasks.waiting(domain.process) == 1
