"""A worker's connection to Redis is lost while it works on a task and waits for the next one."""

import logging
from contextlib import suppress
from queue import Empty
from types import SimpleNamespace

import pytest
from inbox import tasks
from kombu.simple import SimpleQueue
from kombu.transport import redis as redis_transport
from redis_server import RedisServer


@pytest.fixture
def work(make_app, monkeypatch):
    """Give a worker's connection to a Redis of its own, a task it brought, and the server."""
    # The class is the process's, and is put back at the end.
    monkeypatch.setattr(redis_transport.Transport, "Channel", redis_transport.Channel)
    with RedisServer() as server:
        url = server.url.replace("unix:", "redis+socket:").replace("db=", "virtual_host=")
        worker = tasks.for_worker(make_app(BROKER_URL=url).extensions["celery"])
        connection = worker.connection_for_read()
        queue = connection.SimpleQueue("work")
        queue.put("a task")
        task = queue.get(timeout=10)
        assert task.payload == "a task"
        # A second channel, as the one for remote control: it waits, and is the first to notice.
        other = SimpleQueue(connection.channel(), "other")
        with pytest.raises(Empty):
            other.get(timeout=0.2)
        yield SimpleNamespace(connection=connection, task=task, server=server)
        lose(connection)


def lose(connection):
    """Do what Celery does with a connection that is lost, in celery.worker.consumer.

    What else is raised by the second ends the worker.
    """
    with suppress(Exception):
        connection.collect(socket_timeout=1)
    with suppress(*connection.connection_errors, *connection.channel_errors):
        connection.close()


@pytest.mark.servers
def test_worker_does_not_end_when_redis_goes_with_a_task_not_acknowledged(work):
    work.server.kill()
    lose(work.connection)


@pytest.mark.servers
@pytest.mark.parametrize("end", ["ack_log_error", "reject_log_error"])
def test_worker_does_not_end_by_a_task_that_outlasts_its_connection(work, end, caplog):
    work.server.kill()
    lose(work.connection)
    # As celery.worker.request does when the task is over.
    getattr(work.task, end)(logging.getLogger("a worker"), work.connection.connection_errors)
    assert "connection that brought the task is lost" in caplog.text


@pytest.mark.servers
def test_redis_keeps_a_task_that_outlasts_its_connection(work):
    work.server.restart()
    lose(work.connection)
    work.task.ack_log_error(logging.getLogger("a worker"), work.connection.connection_errors)
    # Held for somebody else, who gets it once the visibility timeout is over.
    (held,) = work.server.client.hvals("inbox:unacked")
    assert b'"work"' in held
