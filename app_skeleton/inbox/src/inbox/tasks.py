"""Celery, bound to the app: tasks run in its context, and sending one never makes a request wait or fail.

The database says what is to be done; a task only says "now". A task that could not be sent, or that the
broker lost, is sent again by beat: see :mod:`inbox.beat`.
"""

from __future__ import annotations

import functools
import socket
import time
from typing import Any

import celery
import structlog
from amqp import AMQPError
from celery import Celery, Task, signals
from flask import Flask, current_app
from kombu import Queue
from kombu.exceptions import KombuError
from kombu.transport import redis as redis_transport
from redis import ConnectionError as RedisConnectionError
from redis import ConnectionPool, RedisError

from .models import db
from .outbox import Outbox

#: How long a broker is waited for that does not answer; then nobody asks it for a while.
SEND_TIMEOUT_SECONDS = 0.5
PAUSE_SECONDS = 5
#: A task that takes longer is stopped: everything here takes seconds, or cuts itself into such pieces.
TIME_LIMIT_SECONDS = 300
#: Redis gives a task to somebody else if it is not acknowledged by then; above the time limit.
VISIBILITY_TIMEOUT_SECONDS = 2 * TIME_LIMIT_SECONDS

log = structlog.get_logger(__name__)


def init_app(app: Flask) -> Celery:
    """Make the app's Celery, ``app.extensions["celery"]``."""

    class FlaskTask(Task):
        def __call__(self, *args: object, **kwargs: object) -> object:
            with app.app_context():
                return self.run(*args, **kwargs)

    made = Celery(app.name, task_cls=FlaskTask)
    made.config_from_object(_configuration(app))
    made.flask_app = app
    made.set_default()
    app.extensions["celery"] = made
    app.extensions["celery_pause"] = {"until": 0.0}
    app.extensions["celery_outbox"] = Outbox()
    return made


def _configuration(app: Flask) -> dict[str, Any]:
    url = app.config["BROKER_URL"]
    return {
        "broker_url": url or "memory://",
        # Nobody started a broker: tasks run where they are sent, right for one developer.
        "task_always_eager": url is None,
        "broker_connection_retry_on_startup": True,
        "broker_connection_timeout": SEND_TIMEOUT_SECONDS,
        "broker_transport_options": _transport_options(url, app.config["APP_NAME"], patient=False),
        # A worker takes from each in turn, so that what beat asks for does not stand behind thousands of
        # messages whose service hangs. `app_worker_queues` may share them out to hosts: inbox, inbox-upkeep.
        "task_default_queue": app.name,
        "task_queues": [Queue(name, routing_key=name) for name in (app.name, upkeep_queue(app))],
        "task_ignore_result": True,
        # A task is done when it is done, not when somebody began it. Each may therefore come twice.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # A worker takes what it works on and no more: what waits can go to others.
        "worker_prefetch_multiplier": 1,
        "task_time_limit": TIME_LIMIT_SECONDS,
        "worker_soft_shutdown_timeout": app.config["TASK_SOFT_SHUTDOWN_SECONDS"],
        # A worker goes on when the broker goes, and acknowledges too late: it is done again, without harm.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "beat_scheduler": "inbox.beat:Scheduler",
        "beat_max_loop_interval": 5,
        "timezone": "UTC",
    }


def upkeep_queue(app: Flask) -> str:
    """Return the name of the queue for what beat asks for and for what takes its time."""
    return f"{app.name}-upkeep"


def _transport_options(url: str | None, name: str, *, patient: bool) -> dict[str, Any]:
    if url is None:
        return {}
    if not url.startswith("redis"):
        # Kombu would wait two seconds and try again.
        seconds = SEND_TIMEOUT_SECONDS
        return {} if patient else {"max_retries": 0, "read_timeout": seconds, "write_timeout": seconds}
    options: dict[str, Any] = {
        # Queues, and who hears what is said to all workers: another app's are not this one's.
        "global_keyprefix": f"{name}:",
        "visibility_timeout": VISIBILITY_TIMEOUT_SECONDS,
        "health_check_interval": 10,
        "socket_connect_timeout": 5 if patient else SEND_TIMEOUT_SECONDS,
        # A worker listens, and so never notices by itself that a host has gone without a word: it looks alive
        # and consumes nothing. The kernel asks, and ends the connection after 25 seconds; without this it
        # would after more than two hours (tcp(7)).
        "socket_keepalive": True,
        "socket_keepalive_options": {
            socket.TCP_KEEPIDLE: 10,
            socket.TCP_KEEPINTVL: 5,
            socket.TCP_KEEPCNT: 3,
        },
    }
    return options if patient else {**options, "socket_timeout": SEND_TIMEOUT_SECONDS, "max_retries": 0}


class _Unacknowledged(redis_transport.QoS):
    """What a worker works on, given back to Redis when the connection ends.

    Redis may be away just then. Kombu means to pass over that, and ends the worker with all its tasks
    (https://github.com/celery/kombu/issues/582). What is not given back comes again after the visibility
    timeout, and from beat before that.
    """

    def restore_unacked(self, client: Any = None) -> None:
        """Give back what can be."""
        try:
            super().restore_unacked(client)
        except (RedisError, OSError) as error:
            log.warning("tasks were not given back", tasks=len(self._delivered), error=type(error).__name__)
            self._delivered.clear()


class _Channel(redis_transport.Channel):
    """A channel that says its connection is lost, in words that Kombu and Celery know.

    A task may end after the connection that brought it: Celery then acknowledges it on a channel that has
    none any more, or one without an address. Kombu asks for that, and the worker ends by an AttributeError,
    with all its tasks. Told that the connection is lost, Celery logs it and goes on: the task is done again,
    without harm.
    """

    QoS = _Unacknowledged

    def _get_pool(self, asynchronous: bool = False) -> ConnectionPool:
        if self.connection is None or self.connection.client is None:
            raise RedisConnectionError("the connection that brought the task is lost")
        return super()._get_pool(asynchronous)


def for_worker(made: Celery) -> Celery:
    """Make the connection one for consuming: it waits for work, which is no failure."""
    made.conf.broker_connection_timeout = 5
    # RabbitMQ's way to notice a host that has gone; Celery's default takes minutes.
    made.conf.broker_heartbeat = 10
    name = made.flask_app.config["APP_NAME"]
    made.conf.broker_transport_options = _transport_options(made.conf.broker_url, name, patient=True)
    redis_transport.Transport.Channel = _Channel
    return made


def send_soon(task: Task, *args: object) -> bool:
    """Send a task from a request, which does not wait for it; return whether there was room.

    What does not go is sent by beat later.

    :param task: what to send; its work must stand in the database already.
    """
    if task.app.conf.task_always_eager:
        return send(task, *args)
    return current_app.extensions["celery_outbox"].put(functools.partial(send, task, *args))


def send(task: Task, *args: object) -> bool:
    """Send a task now; return whether it went. If not, beat sends it later.

    :param task: what to send; its work must stand in the database already.
    """
    pause = current_app.extensions["celery_pause"]
    if time.monotonic() < pause["until"]:
        return False
    try:
        task.apply_async(args, retry=False)
    except (KombuError, RedisError, AMQPError, OSError) as error:
        pause["until"] = time.monotonic() + PAUSE_SECONDS
        log.warning("broker does not answer", error=type(error).__name__, pause_seconds=PAUSE_SECONDS)
        return False
    return True


def waiting(task: Task) -> int:
    """Return how many tasks wait where a task would be sent to; 0 if the broker does not say.

    :param task: what would be sent.
    """
    if task.app.conf.task_always_eager:
        return 0
    queue = task.app.amqp.router.route({}, task.name)["queue"]
    try:
        with task.app.producer_or_acquire() as producer:
            return queue.bind(producer.channel).queue_declare().message_count
    except (KombuError, RedisError, AMQPError, OSError) as error:
        log.warning("broker does not answer", error=type(error).__name__)
        return 0


@signals.worker_process_init.connect
def _forget_connections(**_: object) -> None:
    """Leave the connections of the process a pool's process came from to that one."""
    with celery.current_app.flask_app.app_context():
        db.engine.dispose(close=False)
