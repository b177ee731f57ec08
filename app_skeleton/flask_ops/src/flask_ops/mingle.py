"""Have a worker that starts wait for its neighbours as long as they answer, not a second longer.

Celery's worker asks all others for the tasks that were revoked ("mingle"), and consumes nothing until none of
them has said a word for a second. A deploy waits for that worker. Of each revocation every worker was told
when it was made, so what the first neighbour knows the others hardly add to: once one has answered, a
tenth of a second of silence is enough. Where none has, they get the second that Celery gives them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from celery.worker.consumer import mingle

#: Of silence, for an answer on a busy host; one takes some milliseconds.
SHORT_SECONDS = 0.1
#: Celery's own.
LONG_SECONDS = 1.0

_Hello = Callable[[mingle.Mingle, Any], dict[str, Any]]


def install() -> None:
    """Make it so for every worker of this process; calling it again changes nothing."""
    if not hasattr(mingle.Mingle.send_hello, "__wrapped__"):
        mingle.Mingle.send_hello = _patient_with_nobody(mingle.Mingle.send_hello)


def _patient_with_nobody(send_hello: _Hello) -> _Hello:
    @functools.wraps(send_hello)
    def ask(step: mingle.Mingle, consumer: Any) -> dict[str, Any]:
        replies: dict[str, Any] = {}
        for seconds in (SHORT_SECONDS, LONG_SECONDS - SHORT_SECONDS):
            replies = replies or _asked_for(seconds, send_hello, step, consumer)
        return replies

    return ask


def _asked_for(seconds: float, send_hello: _Hello, step: mingle.Mingle, consumer: Any) -> dict[str, Any]:
    # Celery has no setting for it. What stands here is the public signature of `inspect`, whatever else an
    # edition of Celery does around it.
    control = consumer.app.control
    inspect = control.inspect
    control.inspect = lambda *words, **named: inspect(*words, **{**named, "timeout": seconds})
    try:
        return send_hello(step, consumer)
    finally:
        control.inspect = inspect
