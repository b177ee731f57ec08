"""One beat of several, on PostgreSQL and Redis that are real."""

import signal
import time

import pytest
from celery_stack import running
from flask_ops.testing import eventually


@pytest.fixture(scope="module")
def stack(postgresql_server):
    with running(postgresql_server) as stack:
        yield stack


def test_of_two_beats_one_ticks_and_the_other_takes_over(stack):
    beats = [stack.start("beat", "--loglevel", "info") for _ in range(2)]
    mine, sends = "beat ticks here from now on", "Sending due task dispatch-due"
    first = eventually(lambda: next((beat for beat in beats if beat.said(mine)), None), 60)
    (second,) = (beat for beat in beats if beat is not first)
    first.wait_for(sends)
    second.wait_for("beat: Starting")
    count = len(first.said(sends))
    eventually(lambda: len(first.said(sends)) > count, 20)
    assert not second.said("Sending due task")
    first.kill()
    killed = time.monotonic()
    second.wait_for(sends, 10)
    assert time.monotonic() - killed < 10
    # What no worker holds any more is found by it, and done.
    message = stack.receive("found-by-beat")
    stack.ask("UPDATE message SET status = 'pending', next_attempt_at = now() WHERE id = %s", message)
    stack.worker()
    eventually(lambda: stack.is_done(message), 20)
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(20) == 0
    assert stack.ask("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")[0][0] == 0
