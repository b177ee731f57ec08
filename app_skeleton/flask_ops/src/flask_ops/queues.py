"""Look how many tasks wait in Celery's queues, and how long the next one of each has.

Beat looks, in a thread with a connection of its own: it is there wherever there are workers, and goes on
while none of them works. Nobody waits for it, since a scrape reads from files what was seen last; when that
was is a metric too, so that what a beat saw that has gone, or that reaches no broker, counts for nothing.

Nothing is taken, put back or made. Redis shows a message without giving it away. RabbitMQ does not: there,
how long tasks waited is known once a worker takes them (``flask_ops_task_wait_seconds``). Other brokers are
left alone; of some, such as SQS, kombu would make the queue that it is asked about.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import structlog
from celery import Celery
from kombu import Queue
from kombu.common import Broadcast
from prometheus_client import Gauge

#: The message header that says when a task was sent, in seconds since 1970.
SENT_HEADER = "flask_ops_sent_at"
#: How often is looked: as often as Prometheus asks, by default.
EVERY_SECONDS = 15.0
#: How long a broker is waited for that does not answer.
TIMEOUT_SECONDS = 2.0
#: Queues past these are left out, in the order of their names: each is a series and two questions.
QUEUES_AT_MOST = 50

log = structlog.get_logger(__name__)


class Watch:
    """Look at the queues of an app's broker.

    :param app: the Celery app.
    """

    def __init__(self, app: Celery) -> None:
        """Make the metrics; nothing is asked yet."""
        self._app = app
        self._connection: Any = None
        self._failing = False
        self._look = _LOOKS[_driver(app)]
        self._options = dict.fromkeys(_TIME_LIMITS[_driver(app)], TIMEOUT_SECONDS)
        self._tasks = Gauge(
            "flask_ops_queue_tasks", "Tasks that wait in a queue", ("queue",), multiprocess_mode="max"
        )
        self._age = Gauge(
            "flask_ops_queue_oldest_age_seconds",
            "How long a queue's next task has waited",
            ("queue",),
            multiprocess_mode="max",
        )
        self._measured = Gauge(
            "flask_ops_queue_measured_timestamp_seconds",
            "When queues were last seen",
            multiprocess_mode="max",
        )

    def run(self) -> None:
        """Look, again and again, for as long as the process lives."""
        while True:
            self.try_to_look()
            time.sleep(EVERY_SECONDS)

    def try_to_look(self) -> None:
        """Look once; where the broker does not answer, say so once, until it does again."""
        try:
            self.look()
            self._failing = False
        except Exception as error:  # each transport has its own
            self.close()
            if not self._failing:
                # Not its words: an address may stand in them.
                log.warning("queues cannot be measured", error=type(error).__name__)
            self._failing = True

    def look(self) -> None:
        """Look once.

        :raises Exception: whatever the transport raises where the broker does not answer.
        """
        connection = self._connected()
        now = time.time()
        for name in names(self._app):
            tasks, age = self._look(connection, name, now)
            self._tasks.labels(name).set(tasks)
            if age is not None:
                self._age.labels(name).set(age)
        self._measured.set(now)

    def close(self) -> None:
        """Let go of the connection; the next look makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # One that is broken may not even be closed without an error.
            with contextlib.suppress(Exception):
                connection.release()

    def _connected(self) -> Any:
        if self._connection is None:
            # Kept open: RabbitMQ writes lines into its log for each that comes and goes. Without heartbeats,
            # which nobody would send between two looks.
            self._connection = self._app.connection_for_read(
                connect_timeout=TIMEOUT_SECONDS, heartbeat=0, transport_options=self._options
            )
            self._connection.connect()
        return self._connection


def names(app: Celery) -> list[str]:
    """Return the queues that an app declares, and those its workers are told to take from.

    :param app: the Celery app.
    """
    asked_for = (os.environ.get("CELERY_WORKER_QUEUES") or "").split(",")
    return sorted({*lasting(app.amqp.queues), *filter(None, map(str.strip, asked_for))})[:QUEUES_AT_MOST]


def lasting(queues: Mapping[str, Queue]) -> dict[str, Queue]:
    """Return queues without those for what is said to all workers, which each process names anew.

    :param queues: by name.
    """
    return {name: queue for name, queue in list(queues.items()) if not isinstance(queue, Broadcast)}


def start(app: Celery) -> None:
    """Look at an app's queues from now on, in a thread that ends with the process.

    :param app: the Celery app of a beat that begins.
    """
    if _driver(app) not in _LOOKS:
        return
    threading.Thread(target=Watch(app).run, name="flask-ops-queues", daemon=True).start()


def _driver(app: Celery) -> str:
    """Return kombu's word for the kind of broker; nothing is connected to."""
    return str(app.connection_for_read().transport.driver_type)


def _in_redis(connection: Any, name: str, now: float) -> tuple[int, float]:
    """Return how many wait, and for how long the next one has: NaN where its sender did not say since when.

    A queue is a list for each priority, in which messages go in at the left and out at the right.
    """
    import redis

    channel = connection.default_channel
    # Not kombu's own client, which puts the app's prefix before the keys of some commands and not of others.
    pipe = redis.Redis(connection_pool=channel.pool).pipeline()
    for priority in channel.priority_steps:
        key = f"{channel.global_keyprefix}{channel._q_for_pri(name, priority)}"
        pipe.llen(key).lindex(key, -1)
    found = pipe.execute()
    waiting = [message for message in found[1::2] if message is not None]
    ages = [now - sent for sent in map(_sent_at, waiting) if sent is not None]
    return sum(found[::2]), max(0.0, *ages) if ages else math.nan if waiting else 0.0


def _sent_at(message: bytes) -> float | None:
    try:
        return float(json.loads(message)["headers"][SENT_HEADER])
    except (ValueError, TypeError, KeyError):
        return None  # sent by a program without flask_ops


def _in_rabbitmq(connection: Any, name: str, _now: float) -> tuple[int, None]:
    """Return how many wait for a worker."""
    from amqp.exceptions import NotFound

    channel = connection.channel()
    try:
        return channel.queue_declare(name, passive=True).message_count, None
    except NotFound:
        return 0, None  # nobody has sent anything to it; RabbitMQ has closed the channel
    finally:
        channel.close()


_LOOKS = {"redis": _in_redis, "amqp": _in_rabbitmq}
#: In the words of each, which takes no others.
_TIME_LIMITS = {
    "redis": ("socket_timeout", "socket_connect_timeout"),
    "amqp": ("read_timeout", "write_timeout"),
}
