"""What beat sees of Celery's queues, in brokers of the tests' own."""

import contextlib
import math
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery
from flask_ops import queues, task_metrics, tasks
from flask_ops.broker import celery_url
from flask_ops.testing import eventually
from kombu import Queue
from kombu.common import Broadcast
from prometheus_client import REGISTRY
from rabbitmq_server import RabbitMQServer
from redis_server import RedisServer
from structlog.testing import capture_logs
from test_ops_celery import Unit, metrics

PREFIX = "shop:"
MEASURED = 'flask_ops_queue_measured_timestamp_seconds{release="r1",service="shop"}'


@pytest.fixture(scope="module")
def redis_server():
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def rabbitmq():
    with RabbitMQServer() as server:
        yield server


@pytest.fixture
def redis(redis_server):
    redis_server.client.flushall()
    return redis_server


def make(url, *names):
    """Make an app with queues, and with limits of its own to what it waits for."""
    app = tasks.init_celery(Celery("shop", broker=url))
    app.conf.task_queues = [Queue(name, routing_key=name) for name in names] or None
    if url.startswith("redis"):
        app.conf.broker_transport_options = {"global_keyprefix": PREFIX, "socket_timeout": 30}
    return app


@pytest.fixture(params=["redis", "rabbitmq"])
def broker(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def shop(redis):
    return make(celery_url(redis.url), "shop", "upkeep")


@pytest.fixture
def watching(monkeypatch):
    """Watch an app's queues; metrics are made for good, so those of the test before go."""
    made = []

    def watch(app):
        for name in [name for name in REGISTRY._names_to_collectors if name.startswith("flask_ops_queue")]:
            with contextlib.suppress(KeyError):  # a collector has several names
                REGISTRY.unregister(REGISTRY._names_to_collectors[name])
        made.append(queues.Watch(app))
        return made[-1]

    yield watch
    for one in made:
        one.close()


def seen(metric, **labels):
    return REGISTRY.get_sample_value(f"flask_ops_queue_{metric}", labels)


def contents(redis):
    return {key: redis.client.dump(key) for key in redis.client.scan_iter()}


def test_waiting_tasks_and_the_age_of_the_next_one_are_seen_queue_by_queue(shop, watching):
    watch = watching(shop)
    before = time.time()
    shop.send_task("shop.sell", queue="shop")
    time.sleep(0.3)
    shop.send_task("shop.sell", queue="shop")
    watch.look()
    assert (seen("tasks", queue="shop"), seen("tasks", queue="upkeep")) == (2, 0)
    assert 0.3 <= seen("oldest_age_seconds", queue="shop") <= time.time() - before
    assert seen("oldest_age_seconds", queue="upkeep") == 0
    assert before < seen("measured_timestamp_seconds") <= time.time()


def test_age_is_that_of_the_next_task_and_falls_to_nothing_when_it_is_taken(shop, watching):
    watch = watching(shop)
    shop.send_task("shop.sell", queue="shop")
    time.sleep(0.3)
    shop.send_task("shop.sell", queue="shop")
    with shop.connection_for_read() as connection:
        for tasks_left, most_seconds in ((1, 0.3), (0, 0)):
            connection.default_channel.basic_get("shop", no_ack=True)
            watch.look()
            assert seen("tasks", queue="shop") == tasks_left
            assert seen("oldest_age_seconds", queue="shop") <= most_seconds


def test_task_of_each_priority_counts_and_the_oldest_one_tells_the_age(shop, watching):
    for priority, pause in ((9, 0.3), (0, 0)):
        shop.send_task("shop.sell", queue="shop", priority=priority)
        time.sleep(pause)
    watching(shop).look()
    assert seen("tasks", queue="shop") == 2
    assert seen("oldest_age_seconds", queue="shop") >= 0.3


def test_age_of_what_another_program_sent_is_unknown_and_not_nothing(redis, shop, watching):
    redis.client.lpush(f"{PREFIX}shop", '{"headers": {}}')
    redis.client.lpush(f"{PREFIX}upkeep", "no message")
    watching(shop).look()
    for name in ("shop", "upkeep"):
        assert seen("tasks", queue=name) == 1
        assert math.isnan(seen("oldest_age_seconds", queue=name))


def test_looking_takes_makes_and_changes_nothing(redis, shop, watching, monkeypatch):
    monkeypatch.setenv("CELERY_WORKER_QUEUES", "never-made")
    shop.send_task("shop.sell", queue="shop")
    before = contents(redis)
    watch = watching(shop)
    for _ in range(3):
        watch.look()
    assert contents(redis) == before
    assert seen("tasks", queue="never-made") == 0


def test_connection_is_kept_from_one_look_to_the_next(redis, shop, watching):
    watch = watching(shop)
    watch.look()
    connections = redis.client.info("stats")["total_connections_received"]
    for _ in range(5):
        watch.look()
    assert redis.client.info("stats")["total_connections_received"] <= connections + 1


def test_broker_that_hangs_is_given_up_and_found_again(broker, watching, monkeypatch):
    monkeypatch.setattr(queues, "TIMEOUT_SECONDS", 0.2)
    watch = watching(make(celery_url(broker.url), "shop"))
    watch.look()
    last, began = seen("measured_timestamp_seconds"), time.monotonic()
    broker.pause()
    try:
        with capture_logs() as said:
            for _ in range(2):
                watch.try_to_look()
        assert seen("measured_timestamp_seconds") == last
    finally:
        broker.resume()
    # Retries of redis-py and kombu included; the app's own limit of 30 s is not asked.
    assert time.monotonic() - began < 20
    assert [line["event"] for line in said] == ["queues cannot be measured"]
    assert str(broker.folder) not in str(said)

    def look():
        watch.try_to_look()
        return seen("measured_timestamp_seconds") > last

    eventually(look, 20)


def test_rabbitmq_tells_what_waits_and_no_age_and_no_queue_is_made(rabbitmq, watching):
    app = make(rabbitmq.url, "shop", "upkeep")
    watch = watching(app)
    watch.look()
    assert (seen("tasks", queue="shop"), rabbitmq.queues()) == (0, {})
    for _ in range(3):
        app.send_task("shop.sell", queue="shop")
    for _ in range(3):
        watch.look()
    assert (seen("tasks", queue="shop"), seen("tasks", queue="upkeep")) == (3, 0)
    assert seen("oldest_age_seconds", queue="shop") is None
    assert rabbitmq.queues() == {"shop": 3}


def test_queues_are_those_declared_and_asked_for_and_no_more_than_so_many(monkeypatch):
    app = make("redis://", "shop")
    app.conf.task_queues.append(Broadcast("everybody"))
    monkeypatch.setenv("CELERY_WORKER_QUEUES", "slow, shop,")
    assert queues.names(app) == ["shop", "slow"]
    monkeypatch.setattr(queues, "QUEUES_AT_MOST", 1)
    assert queues.names(app) == ["shop"]
    assert queues.names(make("redis://")) == ["celery"]


@pytest.mark.parametrize(
    ("url", "driver"),
    [("redis://", "redis"), ("amqps://me@mq/shop", "amqp"), ("memory://", ""), ("filesystem://", "")],
)
def test_other_brokers_are_left_alone(url, driver):
    known = {thread.name for thread in threading.enumerate()}
    app = make(url)
    assert (queues._driver(app) in queues._LOOKS) == bool(driver)
    if not driver:
        queues.start(app)
        assert {thread.name for thread in threading.enumerate()} == known


def test_task_that_is_tried_again_is_sent_anew(shop, redis):
    headers = {queues.SENT_HEADER: 1.0}
    shop.send_task("shop.sell", queue="shop", headers=headers)
    sent = queues._sent_at(redis.client.lindex(f"{PREFIX}shop", -1))
    assert sent == pytest.approx(time.time(), abs=5)


class Taken:
    """A task as a worker has it when it takes it.

    :param app: the Celery app.
    :param sent_before: how many seconds ago it was sent; None where nobody said.
    """

    def __init__(self, app, sent_before, *, eta=None, **delivery_info):
        self.app, self.request = app, self
        self.eta = eta and eta.isoformat()
        self.delivery_info = delivery_info
        self._sent = None if sent_before is None else time.time() - sent_before

    def get(self, name):
        return self._sent if name == queues.SENT_HEADER else None


def waited(queue):
    return [
        REGISTRY.get_sample_value(f"flask_ops_task_wait_seconds_{name}", {"queue": queue})
        for name in ("count", "sum")
    ]


def test_worker_tells_how_long_what_it_takes_has_waited_by_queues_it_knows(monkeypatch):
    monkeypatch.setattr(task_metrics, "_metrics", [])
    app = make("redis://", "shop", "upkeep")
    task_metrics.expect(app)
    task_metrics.taken(Taken(app, 5, routing_key="shop"))
    task_metrics.make("worker")
    task_metrics.expect(app)
    assert [waited("shop"), waited("upkeep"), waited("other")] == [[0, 0], [0, 0], [None, None]]
    task_metrics.taken(Taken(app, 5, routing_key="shop", exchange=""))
    task_metrics.taken(Taken(app, 2, routing_key="upkeep", exchange="upkeep"))
    task_metrics.taken(Taken(app, 1, routing_key="made up by a sender"))
    task_metrics.taken(Taken(app, None, routing_key="shop"))
    assert [waited(name) for name in ("shop", "upkeep", "other")] == [
        [1, pytest.approx(5, abs=0.5)], [1, pytest.approx(2, abs=0.5)], [1, pytest.approx(1, abs=0.5)],
    ]  # fmt: skip
    due = datetime.now(UTC) - timedelta(seconds=1)
    task_metrics.taken(Taken(app, 60, eta=due, routing_key="shop"))
    task_metrics.taken(Taken(app, -60, routing_key="shop"))
    assert waited("shop") == [3, pytest.approx(6, abs=0.5)]


def test_beat_tells_what_waits_and_a_worker_how_long_it_has(redis, tmp_path_factory, monkeypatch):
    url = celery_url(redis.url)
    tasks.init_celery(Celery("sender", broker=url)).send_task("shop.note")
    sent = time.time()
    time.sleep(1)
    ours, env = ("--app", "flask_ops.worker"), {"TEST_BROKER_URL": url, "FLASK_OPS_SERVICE": "shop"}
    labels = 'queue="celery",release="r1",service="shop"'
    units = []
    try:
        units.append(beat := Unit(tmp_path_factory.mktemp("beat"), *ours, "beat", **env))
        told = eventually(lambda: (now := metrics(beat, monkeypatch)).get(MEASURED) and now)
        # Its own clock sends more, at most five a second.
        assert told[f"flask_ops_queue_tasks{{{labels}}}"] >= 1
        assert 1 <= told[f"flask_ops_queue_oldest_age_seconds{{{labels}}}"] <= time.time() - sent + 1
        worker = Unit(tmp_path_factory.mktemp("worker"), *ours, "worker", "--concurrency", "1", **env)
        units.append(worker)
        worker.wait_for('"event": "noted"')
        count, total = (f"flask_ops_task_wait_seconds_{part}{{{labels}}}" for part in ("count", "sum"))
        told = eventually(lambda: (now := metrics(worker, monkeypatch)).get(count) and now)
        assert told[total] > 1
    finally:
        for unit in units:
            unit.process.kill()
            unit.process.wait()
