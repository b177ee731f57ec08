"""Count Celery's tasks and watch beat's clock.

The series stay bounded: for each registered task one a state, and one a bucket.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from .queues import SENT_HEADER, lasting

_BUCKETS_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1800, float("inf"))


@dataclass(frozen=True, slots=True)
class _Metrics:
    total: Counter
    duration: Histogram
    wait: Histogram
    tick: Gauge | None


#: Longer than the main process, however busy, takes to tell of one task twice; shorter than one that is tried
#: again takes to meet its time limit again.
TOLD_AGAIN_SECONDS = 10.0

_metrics: list[_Metrics] = []
#: When each running task began, by the monotonic clock.
_running: dict[str, float] = {}
#: When a lost task was last told of, by the same clock.
_told: dict[str, float] = {}


def make(role: str) -> None:
    """Make the metrics of a worker or of beat; nothing is counted anywhere else.

    :param role: ``worker`` or ``beat``.
    """
    if _metrics:
        return
    total = Counter("flask_ops_tasks", "Tasks that ended, by how", ("task", "state"))
    duration = Histogram(
        "flask_ops_task_duration_seconds", "How long tasks took", ("task",), buckets=_BUCKETS_SECONDS
    )
    wait = Histogram(
        "flask_ops_task_wait_seconds",
        "How long tasks that workers took had waited since they were due",
        ("queue",),
        buckets=_BUCKETS_SECONDS,
    )
    _metrics.append(_Metrics(total, duration, wait, _tick_gauge() if role == "beat" else None))


def _tick_gauge() -> Gauge:
    name = "flask_ops_beat_last_tick_timestamp_seconds"
    return Gauge(name, "When beat last looked at its schedule", multiprocess_mode="max")


def expect(app: Any) -> None:
    """Count from 0 what a worker takes: a series that begins with 1 has never risen, to Prometheus.

    :param app: the Celery app of a worker that begins.
    """
    for name in lasting(app.amqp.queues.consume_from) if _metrics else ():
        _metrics[0].wait.labels(name)


def taken(task: Any) -> None:
    """Note how long a task waited that begins in this process: since it was sent or, if later, was due.

    :param task: what Celery is about to run.
    """
    request = task.request
    sent = request.get(SENT_HEADER)
    if not _metrics or not isinstance(sent, int | float):
        return  # called without a broker, or sent by a program without flask_ops
    due = max(sent, datetime.fromisoformat(request.eta).timestamp()) if request.eta else sent
    # Clocks of two hosts may differ a little.
    _metrics[0].wait.labels(_queue_of(task)).observe(max(0.0, time.time() - due))


def _queue_of(task: Any) -> str:
    """Return the queue a task came from: without an exchange, its routing key is the queue's name."""
    told = task.request.delivery_info or {}
    key, queues = told.get("routing_key"), lasting(task.app.amqp.queues.consume_from)
    if not told.get("exchange") and key in queues:
        return str(key)
    return next((name for name, queue in queues.items() if queue.routing_key == key), "other")


def started(task_id: str) -> None:
    """Note that a task begins in this process."""
    if _metrics:
        _running[task_id] = time.monotonic()


def ended(task_id: str, name: str, state: str | None) -> None:
    """Count a task that ended in this process.

    :param task_id: its id.
    :param name: the task's registered name.
    :param state: Celery's word; None for one that was cut off, of which the main process tells.
    """
    began = _running.pop(task_id, None)
    if began is not None and state:
        _metrics[0].duration.labels(name).observe(time.monotonic() - began)
        count(name, state.lower())


def lost(task_id: str, name: str) -> None:
    """Count a failure that the worker's main process tells of: its child was killed and cannot.

    Celery tells of a time limit twice, one right after the other.
    """
    now = time.monotonic()
    for known in [known for known, told in _told.items() if now - told > TOLD_AGAIN_SECONDS]:
        del _told[known]
    if task_id not in _running and task_id not in _told:
        _told[task_id] = now
        count(name, "failure")


def count(name: str, state: str) -> None:
    """Count a task.

    :param name: the task's registered name.
    :param state: in lower case.
    """
    if _metrics:
        _metrics[0].total.labels(name, state).inc()


def watch_beat(scheduler: Any) -> None:
    """Set the gauge at every tick of beat's scheduler.

    A beat that lives but hangs stops ticking; Celery has no signal for it. Between two ticks may pass as long
    as ``beat_max_loop_interval``, by default five minutes.

    :param scheduler: the scheduler of a ``celery.beat.Service``.
    """
    gauge, tick = _metrics[0].tick or _tick_gauge(), scheduler.tick

    def ticking(*args: Any, **kwargs: Any) -> Any:
        result = tick(*args, **kwargs)
        gauge.set_to_current_time()
        return result

    scheduler.tick = ticking
