"""A worker's connection to Redis is lost while it works on a task and waits for the next one."""

from contextlib import suppress
from queue import Empty

import pytest
from inbox import tasks
from kombu.simple import SimpleQueue
from kombu.transport import redis as redis_transport
from redis_server import RedisServer


@pytest.mark.servers
def test_worker_does_not_end_when_redis_goes_with_a_task_not_acknowledged(make_app, monkeypatch):
    # The class is the process's, and is put back at the end.
    monkeypatch.setattr(redis_transport.Channel, "QoS", redis_transport.QoS)
    with RedisServer() as server:
        url = server.url.replace("unix:", "redis+socket:").replace("db=", "virtual_host=")
        worker = tasks.for_worker(make_app(BROKER_URL=url).extensions["celery"])
        connection = worker.connection_for_read()
        queue = connection.SimpleQueue("work")
        # A second channel, as the one for remote control: it waits, and is the first to notice.
        other = SimpleQueue(connection.channel(), "other")
        queue.put("a task")
        assert queue.get(timeout=10).payload == "a task"
        with pytest.raises(Empty):
            other.get(timeout=0.2)
        server.kill()
        # What Celery does then, in celery.worker.consumer; what else is raised by the second ends the worker.
        with suppress(Exception):
            connection.collect(socket_timeout=1)
        with suppress(*connection.connection_errors, *connection.channel_errors):
            connection.close()
