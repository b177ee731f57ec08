"""The app as it is deployed: gunicorn, gevent and PostgreSQL."""

import json
import os
import secrets
import subprocess
import sys
import threading
import time

import psycopg
import pytest
from flask_ops.testing import GunicornServer, eventually
from inbox import create_app
from inbox.models import db

TOKENS = "/api/v1/tokens"


def flask(url, *arguments, **env):
    """Run a command in this process: a new one costs seconds."""
    app = create_app({"SQLALCHEMY_DATABASE_URI": url})
    done = app.test_cli_runner().invoke(args=arguments, env=env)
    with app.app_context():
        db.engine.dispose()
    return done


def connect(url):
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


@pytest.fixture
def migrated(postgresql_database):
    done = flask(postgresql_database, "prepare")
    assert done.exit_code == 0, (done.output, done.exception)
    return postgresql_database


@pytest.fixture
def server(migrated, tmp_path):
    (tmp_path / "app_secret_key").write_text(secrets.token_hex())
    env = {
        "APP_ENV": "production",
        "DATABASE_URL": migrated,
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        # Nobody listens there: what needs no Redis works without.
        "REDIS_URL": f"unix://{tmp_path}/redis.sock",
        "STORAGE_URL": f"file://{tmp_path}/files",
    }
    with GunicornServer(
        "inbox.wsgi:app", DATABASE_POOL_SIZE="2", DATABASE_POOL_TIMEOUT_SECONDS="1", **env
    ) as server:
        yield server


def ask(server):
    """Ask for what takes a look at the database, and has no right answer for a stranger."""
    body = json.dumps({"email": "nobody@example.org", "password": "none"}).encode()
    return server.request("POST", TOKENS, {"Content-Type": "application/json"}, body)[0].status


def test_deployed_app_is_ready_and_shows_its_pages(server):
    assert json.loads(server.get("/readyz")[1])["status"] == "ready"
    assert ask(server) == 401
    answer, page = server.get("/auth/sign-in")
    assert (answer.status, b"<h1>Sign in</h1>" in page) == (200, True)
    assert "__Host-session=" in answer.headers["Set-Cookie"]
    assert not [line for line in server.logs() if line["level"] == "error"]


def test_waiting_for_the_database_blocks_no_other_request_and_a_busy_pool_is_still_ready(server, migrated):
    answers = []
    assert ask(server) == 401
    with connect(migrated) as connection, connection.transaction():
        connection.execute("LOCK TABLE user_account")
        waiting = [threading.Thread(target=lambda: answers.append(ask(server))) for _ in range(2)]
        for thread in waiting:
            thread.start()
        locked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        with connect(migrated) as looking:
            assert eventually(lambda: looking.execute(locked).fetchone()[0] == 2)
        begin = time.monotonic()
        assert server.get("/livez")[0].status == 200
        assert time.monotonic() - begin < 0.5
        assert ask(server) == 503, "both connections are in use"
        assert json.loads(server.get("/readyz")[1])["status"] == "ready"
    for thread in waiting:
        thread.join()
    assert answers == [401, 401]


def test_newer_schema_is_ready_and_a_missing_one_is_not(server, migrated):
    with connect(migrated) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of a later release'")
        time.sleep(1.1)
        assert server.get("/readyz")[0].status == 200
        connection.execute("DELETE FROM alembic_version")
        time.sleep(1.1)
        answer, body = server.get("/readyz")
    assert (answer.status, json.loads(body)["checks"][0]["error"]) == (503, "PendingMigrations")


def test_migrations_take_turns(postgresql_database):
    command = [sys.executable, "-m", "flask", "--app", "inbox", "prepare"]
    env = {**os.environ, "DATABASE_URL": postgresql_database}
    upgrades = [subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [upgrade.wait(60) for upgrade in upgrades] == [0, 0]
