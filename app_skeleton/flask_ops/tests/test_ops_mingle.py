"""What a worker asks its neighbours when it starts, and how long it waits for them."""

import signal
import types

import pytest
from celery import Celery
from celery.worker.consumer import mingle as celerys
from flask_ops import mingle
from flask_ops.broker import celery_url
from redis_server import RedisServer
from test_ops_celery import Unit

REVOKED = "5f2b6d0e-revoked-before-the-deploy"


@pytest.fixture
def asked(monkeypatch):
    """Return the seconds of each question a starting worker asks, answered as a test says."""

    def ask(*answers):
        seconds, replies = [], list(answers)

        class Inspect:
            def __init__(self, *, timeout, connection):
                assert connection == "its own"
                seconds.append(timeout)

            def hello(self, *_):
                return replies.pop(0)

        state = types.SimpleNamespace(revoked=[])
        consumer = types.SimpleNamespace(
            app=types.SimpleNamespace(control=types.SimpleNamespace(inspect=Inspect)),
            connection="its own",
            hostname="new@host",
            controller=types.SimpleNamespace(state=state),
        )
        found = celerys.Mingle.send_hello(types.SimpleNamespace(), consumer)
        assert consumer.app.control.inspect is Inspect
        return seconds, found

    monkeypatch.setattr(celerys.Mingle, "send_hello", celerys.Mingle.send_hello)
    mingle.install()
    mingle.install()
    return ask


def test_neighbour_that_answers_is_waited_for_a_short_while(asked):
    assert asked({"old@host": {"clock": 3}}) == ([0.1], {"old@host": {"clock": 3}})


def test_worker_that_hears_nobody_waits_as_long_as_celery_would(asked):
    seconds, found = asked(None, None)
    assert (sum(seconds), found) == (1.0, {})


def test_neighbour_that_is_slow_is_still_heard(asked):
    assert asked({"new@host": {}}, {"slow@host": {"clock": 1}})[1] == {"slow@host": {"clock": 1}}


def test_task_revoked_before_a_deploy_stays_revoked_in_the_new_worker(tmp_path):
    with RedisServer() as redis:
        url = celery_url(redis.url)
        env = {"TEST_BROKER_URL": url, "TEST_REMOTE_CONTROL": "1"}
        units = []
        try:
            for name in ("old", "new"):
                (tmp_path / name).mkdir()
                words = ("--app", "flask_ops.worker", "worker", "--pool", "solo", "--hostname")
                units.append(Unit(tmp_path / name, *words, f"{name}@host", **env))
                units[-1].wait_for("ready for work")
                if name == "old":
                    control = Celery(broker=url).control
                    control.revoke(REVOKED)
                    assert control.inspect(["old@host"]).revoked() == {"old@host": [REVOKED]}
            units[0].process.send_signal(signal.SIGTERM)
            units[0].process.wait(30)
            assert control.inspect(["new@host"]).revoked() == {"new@host": [REVOKED]}
        finally:
            for unit in units:
                unit.process.kill()
                unit.process.wait()
