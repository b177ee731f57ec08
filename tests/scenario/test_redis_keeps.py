"""Redis as somebody else left it: what it held outlives this project's settings, and restarts of any kind."""

from __future__ import annotations

import pytest
from testbed import sites

pytestmark = pytest.mark.long

SOCKET = "redis-cli -s /run/redis/redis.sock"


def entries(broker):
    return broker.sudo(f"{SOCKET} lrange waiting 0 -1").split()


def pid(broker):
    return broker.sudo("systemctl show --property=MainPID --value redis-server.service").strip()


def answers(broker):
    return broker.host.run(f"{SOCKET} ping").stdout.strip() == "PONG"


@pytest.fixture(scope="module")
def taken_over(broker):
    """Put entries into Debian's own Redis, which keeps no append-only file, and run site.yml."""
    broker.sudo(
        "apt-get update -qq && apt-get install -y -qq --no-install-recommends redis-server",
        timeout_seconds=300,
    )
    assert broker.sudo("redis-cli config get appendonly").split() == ["appendonly", "no"]
    broker.sudo("redis-cli rpush waiting a b")
    return broker.play("site", "--tags", "redis", label="Redis taken over").ok()


def test_entries_outlive_the_change_of_settings(broker, taken_over):
    assert entries(broker) == ["a", "b"], taken_over.changed_tasks


@pytest.mark.parametrize("how", ["restart", "kill --signal=KILL"])
def test_entries_outlive_a_restart(broker, taken_over, how):
    before, process = entries(broker), pid(broker)
    broker.sudo(f"{SOCKET} rpush waiting c && systemctl {how} redis-server.service")
    assert sites.until(30, lambda: pid(broker) not in ("0", process) and answers(broker))
    assert entries(broker) == [*before, "c"]


def somebody_elses(broker, words):
    return broker.sudo(f"redis-cli -p 6379 {words}").split()


@pytest.fixture(scope="module")
def moved(broker, taken_over):
    """Give Redis another socket, with somebody else's Redis on the port Debian's would listen on."""
    broker.sudo(
        "systemd-run --quiet --unit=somebody-elses --working-directory=/tmp"
        " redis-server --port 6379 --bind 127.0.0.1 --save ''"
    )
    assert sites.until(10, lambda: broker.host.run("redis-cli -p 6379 ping").stdout.strip() == "PONG")
    # From here on what comes is in no append-only file, as before this project's settings.
    broker.sudo(f"{SOCKET} config set appendonly no && {SOCKET} rpush waiting d")
    before = entries(broker)
    there = {"redis_socket_path": "/run/redis/moved.sock"}
    broker.play("site", "--tags", "redis", extra=there, label="Redis on another socket").ok()
    yield before, broker.sudo("redis-cli -s /run/redis/moved.sock lrange waiting 0 -1").split()
    broker.sudo("systemctl stop somebody-elses.service")
    broker.play("site", "--tags", "redis", label="Redis back on its socket").ok()


def test_entries_outlive_a_change_of_socket(moved):
    before, after = moved
    assert after == before
    assert "d" in after


def test_a_redis_of_somebody_else_is_left_alone(broker, moved):
    assert somebody_elses(broker, "config get appendonly") == ["appendonly", "no"]


def test_verify_fails_while_redis_listens_elsewhere(broker, moved):
    play = broker.play("verify", "--tags", "redis", label="verify of Redis on another socket")
    assert play.returncode == 2, play.tail()
    assert "/run/redis/moved.sock" in play.words


@pytest.fixture(scope="module")
def locked(broker, moved):
    """Change a setting of a Redis that wants a password, and take the password away again."""
    socket = "redis-cli -s /run/redis/moved.sock"
    process = pid(broker)
    broker.sudo(f"{socket} config set requirepass secret")
    extra = {"redis_socket_path": "/run/redis/moved.sock", "redis_maxmemory": "300mb"}
    try:
        play = broker.play("site", "--tags", "redis", extra=extra, label="Redis that wants a password")
    finally:
        broker.sudo(f"REDISCLI_AUTH=secret {socket} config set requirepass ''")
    return play, process == pid(broker)


def test_redis_that_cannot_be_asked_is_not_restarted(locked):
    play, same_process = locked
    assert play.returncode == 2, play.tail()
    assert same_process


def test_what_to_type_is_said(locked):
    play, _same_process = locked
    assert "redis-cli -e -s /run/redis/moved.sock config set appendonly yes" in play.words, play.tail()
    assert "--askpass" in play.words
