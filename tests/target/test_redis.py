"""Redis: reached over its local socket by members of its group, and losing nothing silently."""

from __future__ import annotations

import pytest

SOCKET = "/run/redis/redis.sock"


def redis(host, words, user="redis"):
    return host.run(f"sudo -n -u {user} redis-cli -s {SOCKET} {words}")


def test_runs_and_starts_at_boot(host):
    service = host.service("redis-server")
    assert service.is_running
    assert service.is_enabled


def test_listens_on_no_tcp_port(host):
    assert redis(host, "config get port").stdout.split() == ["port", "0"]
    assert "redis" not in host.check_output("ss -Htlnp")


def test_socket_is_for_its_group(host):
    socket = host.file(SOCKET)
    assert (socket.user, socket.group, socket.mode) == ("redis", "redis", 0o770)


def test_app_may_connect(host, app):
    assert redis(host, "ping", user=app).stdout.strip() == "PONG"


@pytest.mark.parametrize("user", ["nobody", "www-data", "admin"])
def test_other_accounts_may_not(host, user):
    answer = redis(host, "ping", user=user)
    assert "PONG" not in answer.stdout
    assert "denied" in (answer.stdout + answer.stderr).lower(), answer


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # A full queue refuses an entry; it never drops one that is there.
        ("maxmemory-policy", "noeviction"),
        ("maxmemory", str(256 * 1024**2)),
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
    ],
)
def test_setting_is_in_effect(host, name, value):
    assert redis(host, f"config get {name}").stdout.split() == [name, value]


def test_settings_on_disk_are_read_by_redis_alone(host):
    for path in ("/etc/redis/redis.conf", "/etc/redis/local.conf"):
        file = host.file(path)
        assert (file.user, file.mode) == ("redis", 0o640), path
