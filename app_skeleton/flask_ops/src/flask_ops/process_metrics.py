"""Show what a worker is doing now: requests in flight, pool use, the listen queue, the event loop's lag.

Nothing here is written for each request: a sampler in each worker, a greenlet under gevent and a thread
elsewhere, writes the gauges once a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

import structlog
from prometheus_client import CollectorRegistry, Gauge, Histogram

from . import in_flight
from .backlog import BacklogUnknown, listen_backlog
from .multiproc import current_slot
from .native import patched

if TYPE_CHECKING:
    from flask import Flask

#: How often the event loop's lag is measured. A loop blocked for less than this is seen in part.
TICK_SECONDS = 0.25
#: How often gauges are written.
SAMPLE_SECONDS = 1.0
#: From one slow template to a worker that gunicorn is about to kill.
LAG_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

registry = CollectorRegistry()
log = structlog.get_logger(__name__)
_apps: WeakSet[Flask] = WeakSet()
_engines: WeakKeyDictionary[Flask, dict[str | None, Any]] = WeakKeyDictionary()


def watch(app: Flask) -> None:
    """Show the use of an app's database pools.

    :param app: an app that may have Flask-SQLAlchemy.
    """
    _apps.add(app)


def _gauge(name: str, documentation: str, labels: tuple[str, ...] = (), mode: str = "livesum") -> Gauge:
    return Gauge(name, documentation, labels, registry=registry, multiprocess_mode=mode)  # type: ignore[arg-type]


class Sampler:
    """Write a worker's gauges. Make it in the worker, after the fork.

    :param worker: gunicorn's worker.
    :param gevent: whether requests share one thread, whose lag is to be measured.
    """

    def __init__(self, worker: Any, *, gevent: bool) -> None:
        """Make the metrics and write what does not change."""
        self._sockets = list(worker.sockets)
        slot = current_slot()
        self._in_flight = _gauge("flask_ops_in_flight_requests", "Requests being answered, all pages")
        self._pools = _gauge(
            "flask_ops_pool_connections",
            "Connections of SQLAlchemy's pools: in use, idle, the most it keeps, the most it opens",
            ("pool", "state"),
        )
        _gauge("flask_ops_workers", "Workers that are up").set(1)
        started = "When the worker in a slot started, in seconds since 1970"
        begun = _gauge("flask_ops_worker_start_time_seconds", started, ("worker",), "livemax")
        begun.labels(slot).set(time.time())
        # Under gevent a connection takes a greenlet, and past these none is accepted; elsewhere, a thread.
        most = worker.cfg.worker_connections if gevent else worker.cfg.threads
        _gauge("flask_ops_in_flight_limit", "Requests all workers can answer at once").set(most)
        self._lag = self._lag_histogram() if gevent else None
        self._queue: tuple[Gauge, Gauge] | None = None

    @staticmethod
    def _lag_histogram() -> Histogram:
        words = "How much later than asked for the event loop woke a sleeper"
        return Histogram("flask_ops_event_loop_lag_seconds", words, registry=registry, buckets=LAG_BUCKETS)

    def run(self) -> None:
        """Sample until the worker ends."""
        failed = False
        while True:
            try:
                self.sample()
            except Exception:
                if not failed:
                    log.exception("metrics of this worker cannot be sampled")
                failed = True
            self._wait()

    def sample(self) -> None:
        """Write the gauges once."""
        self._in_flight.set(in_flight.number())
        for app in list(_apps):
            for pool, state, connections in pool_use(app):
                self._pools.labels(pool, state).set(connections)
        self._sample_backlog()

    def _wait(self) -> None:
        if self._lag is None:
            time.sleep(SAMPLE_SECONDS)
            return
        for _ in range(round(SAMPLE_SECONDS / TICK_SECONDS)):
            begin = time.perf_counter()
            time.sleep(TICK_SECONDS)
            self._lag.observe(max(0.0, time.perf_counter() - begin - TICK_SECONDS))

    def _sample_backlog(self) -> None:
        try:
            queues = [listen_backlog(listener) for listener in self._sockets]
        except BacklogUnknown as error:
            # Absent rather than 0: a rule on it must not say that all is well.
            log.debug("the listen queue cannot be seen", error=str(error))
            self._sockets = []
            return
        if not queues:
            return
        if self._queue is None:
            # All workers share the queue: the last one to look is right.
            waiting = "Connections that wait for a worker to accept them"
            self._queue = (
                _gauge("flask_ops_listen_backlog", waiting, mode="livemostrecent"),
                _gauge("flask_ops_listen_backlog_max", "The most that may wait", mode="livemostrecent"),
            )
        for gauge, values in zip(self._queue, zip(*queues, strict=True), strict=True):
            gauge.set(sum(values))


def start_sampler(worker: Any) -> None:
    """Sample this worker until it ends.

    :param worker: gunicorn's worker, after its app is loaded.
    """
    sampler = Sampler(worker, gevent=patched())
    # Under gevent the standard library is patched: this thread is a greenlet of the worker's own loop.
    threading.Thread(target=sampler.run, name="flask-ops-sampler", daemon=True).start()


def pool_use(app: Flask) -> Iterator[tuple[str, str, int]]:
    """Yield pool, state and number of connections for each database of an app with Flask-SQLAlchemy.

    ``checked_out`` may go up to ``limit`` (``pool_size + max_overflow``); past that a request waits
    ``pool_timeout`` and fails.

    :param app: the app.
    """
    if app not in _engines:
        _engines[app] = _find_engines(app)
    for bind, engine in _engines[app].items():
        pool = engine.pool
        if hasattr(pool, "checkedout") and hasattr(pool, "size"):
            name = bind or "default"
            yield name, "checked_out", pool.checkedout()
            yield name, "idle", pool.checkedin()
            yield name, "size", pool.size()
            overflow = getattr(pool, "_max_overflow", 0)
            if overflow >= 0:
                yield name, "limit", pool.size() + overflow


def _find_engines(app: Flask) -> dict[str | None, Any]:
    database = app.extensions.get("sqlalchemy")
    # Asked of the class: the property itself wants an app context.
    if not hasattr(type(database), "engines"):
        return {}
    with app.app_context():
        return dict(database.engines)  # type: ignore[union-attr]
