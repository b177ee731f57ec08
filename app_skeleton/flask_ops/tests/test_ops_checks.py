"""Readiness checks declared by name, against the real thing wherever it can run here."""

import json
import signal
import socket
import time
from pathlib import Path

import flask
import psycopg
import pytest
from flask_ops import checks, declared_checks
from flask_ops.health import Readiness
from flask_ops.settings import Mistakes
from upstream import QuietHandler, serving


def declare(monkeypatch, *items):
    monkeypatch.setenv(declared_checks.VARIABLE, json.dumps(items))


def states(readiness):
    return {result.id: (result.state, result.error) for result in readiness.results()}


def test_nothing_declared_is_no_check():
    assert declared_checks.from_environment(None) == []


def test_every_mistake_of_a_declaration_is_named(monkeypatch):
    declare(
        monkeypatch,
        {"check": "postgres"},
        {"check": "http"},
        {"check": "disk", "paht": "/", "minimum_free_percent": "many"},
        {"check": "redis", "name": "Main Cache"},
        {"check": "disk", "timeout_seconds": 60},
        "disk",
    )
    with pytest.raises(Mistakes) as caught:
        declared_checks.read()
    said = str(caught.value)
    for words in (
        "check 1: 'postgres' is not known; did you mean 'postgresql'?",
        "check 2: http needs `url`",
        "check 3: disk takes no 'paht'; did you mean 'path'?",
        "minimum_free_percent is 'many'",
        "check 4: check name 'Main Cache'",
        "check 5: check 'disk': timeout_seconds=60",
        "check 6: None is not known",
    ):
        assert words in said


def test_check_says_what_it_lacks(monkeypatch):
    declare(monkeypatch, {"check": "postgresql"}, {"check": "sqlalchemy"})
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with pytest.raises(
        Mistakes, match=r"(?s)DATABASE_URL is not set.*Declare postgresql, with a url"
    ) as caught:
        declared_checks.from_environment(flask.Flask("plain"))
    assert len(caught.value.mistakes) == 2


def test_check_without_its_package_names_the_package(monkeypatch):
    monkeypatch.setitem(declared_checks._PACKAGES, "redis", ("no_such_package", "redis"))
    declare(monkeypatch, {"check": "redis", "url": "redis://localhost"})
    with pytest.raises(Mistakes, match="redis needs the package redis, which this release lacks"):
        declared_checks.from_environment(None)


def test_disk_with_room_is_ready_and_one_without_is_not(tmp_path):
    roomy = checks.disk(str(tmp_path), minimum_free_percent=0)
    full = checks.disk(str(tmp_path), name="full", minimum_free_percent=100.1)
    absent = checks.disk(str(tmp_path / "absent"), name="absent")
    assert states(Readiness([roomy, full, absent])) == {
        "disk": ("ok", None),
        "full": ("failed", "NoRoom"),
        "absent": ("failed", "FileNotFoundError"),
    }


def test_disk_mounted_read_only_is_not_ready():
    read_only = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if " ro," in line]
    if not read_only:
        pytest.skip("nothing is mounted read-only here")
    found = Readiness([checks.disk(read_only[0], minimum_free_percent=0)]).results()[0]
    assert (found.error, "read-only" in str(found.cause)) == ("NoRoom", True)


@pytest.fixture
def service():
    """An HTTP server whose status is that of the path."""

    class Handler(QuietHandler):
        def do_GET(self):
            self.answer(status=int(self.path[1:]))

    with serving(Handler) as url:
        yield url


def test_http_is_ready_below_400_alone(service):
    made = [checks.http(f"{service}/{status}", name=f"s{status}") for status in (200, 204, 404, 503)]
    assert {name: state for name, (state, _) in states(Readiness(made)).items()} == {
        "s200": "ok",
        "s204": "ok",
        "s404": "failed",
        "s503": "failed",
    }


def test_service_that_hangs_or_refuses_is_not_ready_within_its_limit():
    with socket.socket() as mute, socket.socket() as closed:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        closed.bind(("127.0.0.1", 0))
        hanging, refusing = (f"127.0.0.1:{each.getsockname()[1]}" for each in (mute, closed))
        made = [
            checks.http(f"http://{hanging}/", name="http-hangs", timeout_seconds=0.4),
            checks.redis(f"redis://{hanging}/0", name="redis-hangs", timeout_seconds=0.4),
            checks.http(f"http://{refusing}/", name="http-refuses"),
            checks.redis(f"redis://{refusing}/0", name="redis-refuses"),
            checks.postgresql(f"postgresql://{refusing}/shop", name="postgresql-refuses"),
        ]
        began = time.monotonic()
        found = states(Readiness(made))
    assert time.monotonic() - began < 2
    assert all(state in ("failed", "timeout") for state, _ in found.values()), found


def backends(address):
    with psycopg.connect(address, autocommit=True) as connection:
        counting = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flask_ops-readiness'"
        return connection.execute(counting).fetchone()[0]


def test_postgresql_is_asked_over_one_kept_connection(postgresql):
    check = checks.postgresql(postgresql)
    for _ in range(3):
        assert check.call() is None
    assert backends(postgresql.replace("+psycopg", "")) == 1


def test_postgresql_check_gets_a_new_connection_when_its_own_was_cut(postgresql):
    check = checks.postgresql(postgresql)
    check.call()
    with psycopg.connect(postgresql.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'flask_ops-readiness'"
        )
    assert check.call() is None


def test_postgresql_that_hangs_makes_it_unready_until_it_is_back(postgresql_server):
    readiness = Readiness([checks.postgresql(postgresql_server.url)])
    assert readiness.ready()
    postgresql_server.signal_all(signal.SIGSTOP)
    try:
        time.sleep(1.1)  # what it was a moment ago is remembered for one second
        began = time.monotonic()
        assert not readiness.ready()
        assert time.monotonic() - began < 2
    finally:
        postgresql_server.signal_all(signal.SIGCONT)
    deadline = time.monotonic() + 30
    while not readiness.ready():
        assert time.monotonic() < deadline, readiness.results()
        time.sleep(0.1)
