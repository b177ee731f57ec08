import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask_ops.testing import eventually
from inbox.store import MemoryStore, RedisStore, StoreUnavailable
from redis import Redis
from redis_server import RedisServer


@pytest.fixture(scope="module")
def server():
    with RedisServer() as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
def store(request):
    if request.param == "memory":
        return MemoryStore()
    client = request.getfixturevalue("server").client
    client.flushall()
    return RedisStore(client, "inbox:")


def test_key_is_new_once(store):
    assert store.add("a", 60)
    assert not store.add("a", 60)
    assert store.add("b", 60)
    assert not MemoryStore().has_any("a")


def test_one_of_many_at_once_is_first(store):
    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(lambda _: store.add("a", 60), range(64))) == 1


def test_any_of_several_keys_is_enough(store):
    store.add("a", 60)
    assert store.has_any("x", "a")
    assert not store.has_any("x", "y")


def test_keys_end_by_themselves(store):
    assert store.add("a", 0.05)
    store.keep("b", 0.05)
    store.count("c", 0.05)
    eventually(lambda: not store.has_any("a", "b", "c"), 5)
    assert store.add("a", 60)


def test_kept_key_begins_anew_each_time(store):
    store.keep("a", 0.05)
    store.keep("a", 60)
    time.sleep(0.1)  # longer than the first
    assert store.has_any("a")


def test_counter_counts_all_of_many_at_once(store):
    with ThreadPoolExecutor(16) as pool:
        counted = sorted(number for number, _ in pool.map(lambda _: store.count("a", 60), range(64)))
    assert counted == list(range(1, 65))


def test_counter_ends_as_long_after_its_first_time_however_often_it_counts(store):
    assert store.count("a", 60)[0] == 1
    number, left = store.count("a", 3600)
    assert number == 2
    assert 50 < left <= 60
    assert store.count("a", 60, -1)[0] == 1


def test_counter_that_has_ended_and_is_taken_back_forgives_one_at_most(store):
    assert store.count("a", 60, -1)[0] == -1
    assert store.count("a", 60)[0] == 0


def test_keys_of_other_apps_are_not_ours(server):
    server.client.flushall()
    ours, theirs = RedisStore(server.client, "ours:"), RedisStore(server.client, "theirs:")
    assert ours.add("a", 60)
    assert not theirs.has_any("a")
    assert server.client.keys() == [b"ours:a"]
    assert 0 < server.client.pttl("ours:a") <= 60_000


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: store.add("a", 60),
        lambda store: store.keep("a", 60),
        lambda store: store.has_any("a"),
        lambda store: store.count("a", 60),
    ],
)
def test_redis_that_is_away_is_neither_yes_nor_no(ask):
    with pytest.raises(StoreUnavailable):
        ask(RedisStore(Redis(port=1, socket_timeout=0.2, retry=None), "inbox:"))


def test_connection_that_a_restart_closed_is_made_anew(make_app):
    with RedisServer() as server:
        store = make_app(REDIS_URL=server.url).extensions["store"]
        assert store.add("a", 60)
        server.restart()
        assert store.has_any("a")
