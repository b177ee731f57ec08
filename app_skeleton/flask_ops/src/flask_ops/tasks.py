"""Make Celery's workers and beat operable: request ids, JSON logs, metrics and error reports.

Importing this module is enough, and :mod:`flask_ops.extension` does it for every app that imports Celery: all
of it hangs on Celery's signals ("Signals" in its user guide), and no setting of the app is touched.
``python -m celery --app flask_ops.worker worker`` does it for an app that knows nothing of flask_ops.

A request's id goes along with the tasks it sends, and with the tasks those send. A task that no request
caused (beat's) takes the id of the task at its root.

systemd (``Type=notify``) is told when a worker has begun to consume and when beat has read its schedule, so
that a start that returns has come to something.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import structlog
from celery import Celery, signals
from gunicorn.systemd import sd_notify

from . import logs, multiproc, propagation, queues, task_metrics
from .errors import init_sentry, traces_rate
from .request_id import begin_request, current_request_id, end_request
from .settings import Reader, choice, setting

#: The message header, and the attribute of ``task.request``.
HEADER = "flask_ops_request_id"
_TALKATIVE = ("celery.worker.strategy", "celery.app.trace", "celery.worker.request")
#: Tasks whose request id began with them, in this process.
_began: set[str] = set()
_state: dict[str, str | None] = {"role": None}

log = structlog.get_logger(__name__)


def init_celery(app: Celery) -> Celery:
    """Make a Celery app's workers and beat operable; calling it again changes nothing.

    Call it where the app is made. In any other process than a worker or beat only the request id is added to
    the tasks it sends.

    :param app: the Celery app, returned as it is.
    """
    connect()
    return app


def connect() -> None:
    """Connect to Celery's signals, and begin at once where the command line starts something that stays."""
    for signal, receiver in _RECEIVERS.items():
        signal.connect(receiver, dispatch_uid=f"flask_ops.{receiver.__name__}")
    role = _role_of(sys.argv)
    if role:
        _begin(role)


def role() -> str | None:
    """Return what this process was started as: ``worker``, ``beat``, ``flower``, or None."""
    return _state["role"]


def _role_of(arguments: list[str]) -> str | None:
    """Return ``worker``, ``beat`` or ``flower`` if Celery's command line starts it, otherwise None."""
    if not any("celery" in "/".join(Path(program).parts[-2:]) for program in arguments[:1]):
        return None
    for before, word in pairwise(arguments):
        if word in ("worker", "beat", "flower") and before not in ("-A", "--app"):
            return word
    return None


def _begin(role: str) -> None:
    """Take up a role: before the app makes its first metric, wherever possible.

    :raises Mistakes: if settings are wrong; every one of them is named.
    """
    if _state["role"]:
        return
    _require_settings()
    _state["role"] = role
    if role == "flower":
        multiproc.active_directory()  # it runs no task, and its own metrics are of one process
        _configure_logging()
        return
    multiproc.prepare(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
    if role == "beat":
        multiproc.use_slot("beat")
    task_metrics.make(role)
    _configure_logging()
    propagation.install()


def _require_settings() -> None:
    read = Reader()
    read(choice, "GUNICORN_LOG_LEVEL", "info", allowed=logs.LEVELS)
    for look in (traces_rate, propagation.in_sql, propagation.in_outgoing_calls):
        read.check(look)
    read.finish()


def _configure_logging(loglevel: int | None = None) -> None:
    # A warning is what Celery says when its command line says nothing; web workers say info then.
    given = None if loglevel in (None, logging.WARNING) else logging.getLevelName(loglevel)
    logs.take_over((setting("GUNICORN_LOG_LEVEL", None) or given or "info").lower())
    for name in _TALKATIVE:
        logging.getLogger(name).addFilter(_without_arguments)


def _without_arguments(record: logging.LogRecord) -> bool:
    """Keep a task's name and id of what Celery hands to log handlers, not its arguments: data of users."""
    data = record.__dict__.pop("data", None)
    if isinstance(data, dict):
        record.task, record.task_id = data.get("name"), data.get("id")
    return True


def _on_setup_logging(loglevel: int = logging.WARNING, **_: Any) -> None:
    # That there is a receiver keeps Celery from configuring logging, and from redirecting stdout itself.
    _configure_logging(loglevel)


def _on_celeryd_init(instance: Any, **_: Any) -> None:
    from celery.apps import worker

    from . import mingle  # of what only a worker loads

    mingle.install()
    instance.quiet = True  # its banner is no JSON, nor is what it says past sys.stdout while it stops
    worker.safe_say = lambda message, *_: log.info(message)
    _begin("worker")
    init_sentry()  # the app is loaded by now, and Sentry looks into what it uses


def _on_celeryd_after_setup(**_: Any) -> None:
    logs.settle()


def _on_worker_ready(sender: Any, **_: Any) -> None:
    task_metrics.expect(sender.app)
    # Sent once, when the first connection to the broker consumes. Later ones may come and go: Celery's own
    # loop connects again, and systemd has nothing to mend there.
    sd_notify("READY=1", log)


def _on_worker_shutting_down(**_: Any) -> None:
    sd_notify("STOPPING=1", log)


def _on_worker_process_init(**_: Any) -> None:
    """Give a pool's process the slot of its index, which its successor will have again."""
    from billiard import current_process

    slot = getattr(current_process(), "index", 0)
    multiproc.forget_gauges(slot)
    multiproc.use_slot(slot)


def _on_beat_init(sender: Any, **_: Any) -> None:
    _begin("beat")
    multiproc.use_slot("beat")  # again: a worker's embedded beat is a process of its own
    task_metrics.watch_beat(sender.scheduler)
    queues.start(sender.app)
    init_sentry()
    logs.settle()
    sd_notify("READY=1", log)


def _on_publish(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is None:
        return
    request_id = current_request_id()
    if request_id:
        headers.setdefault(HEADER, request_id)
    # One that is tried again brings the header of the time before.
    headers[queues.SENT_HEADER] = time.time()


def _on_prerun(task_id: str, task: Any, **_: Any) -> None:
    # An eager task runs inside the request that called it, and keeps its id.
    if current_request_id() is None:
        request = task.request
        begin_request(request.get(HEADER) or request.root_id or task_id)
        structlog.contextvars.bind_contextvars(task=task.name, task_id=task_id)
        _began.add(task_id)
    task_metrics.started(task_id)
    task_metrics.taken(task)


def _on_postrun(task_id: str, task: Any, state: str | None = None, **_: Any) -> None:
    task_metrics.ended(task_id, task.name, state)
    if task_id in _began:
        _began.discard(task_id)
        end_request()


def _on_failure(sender: Any, task_id: str, **_: Any) -> None:
    task_metrics.lost(task_id, sender.name)


def _on_revoked(sender: Any, **_: Any) -> None:
    task_metrics.count(sender.name, "revoked")


_RECEIVERS = {
    signals.setup_logging: _on_setup_logging,
    signals.celeryd_init: _on_celeryd_init,
    signals.celeryd_after_setup: _on_celeryd_after_setup,
    signals.worker_ready: _on_worker_ready,
    signals.worker_shutting_down: _on_worker_shutting_down,
    signals.worker_process_init: _on_worker_process_init,
    signals.beat_init: _on_beat_init,
    signals.before_task_publish: _on_publish,
    signals.task_prerun: _on_prerun,
    signals.task_postrun: _on_postrun,
    signals.task_failure: _on_failure,
    signals.task_revoked: _on_revoked,
}

connect()
