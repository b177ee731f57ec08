"""The app as it is deployed: gunicorn, gevent and PostgreSQL."""

import json
import os
import subprocess
import sys
import threading
import time

import psycopg
import pytest
from flask_ops.testing import GunicornServer
from inbox import create_app
from inbox.models import db


def flask_db(url, *arguments, **env):
    """Run ``flask db`` in this process: a new one costs seconds."""
    app = create_app({"SQLALCHEMY_DATABASE_URI": url})
    done = app.test_cli_runner().invoke(args=["db", *arguments], env=env)
    with app.app_context():
        db.engine.dispose()
    return done


def connect(url):
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


@pytest.fixture
def migrated(postgresql):
    done = flask_db(postgresql, "upgrade")
    assert done.exit_code == 0, done.output
    yield postgresql
    with connect(postgresql) as connection:
        connection.execute("DROP TABLE IF EXISTS message, alembic_version")


@pytest.fixture
def server(migrated, tmp_path):
    (tmp_path / "app_secret_key").write_text("k" * 40)
    env = {"APP_ENV": "production", "DATABASE_URL": migrated, "CREDENTIALS_DIRECTORY": str(tmp_path)}
    with GunicornServer(
        "inbox.wsgi:app", DATABASE_POOL_SIZE="2", DATABASE_POOL_TIMEOUT_SECONDS="1", **env
    ) as server:
        yield server


def post(server, body="order"):
    payload = json.dumps({"source": "shop", "body": body}).encode()
    return server.request("POST", "/api/v1/messages", {"Content-Type": "application/json"}, payload)


def test_deployed_app_takes_and_shows_messages(server):
    assert json.loads(server.get("/readyz")[1])["status"] == "ready"
    answer, _ = post(server, "Ärger")
    assert answer.status == 201
    assert "Ärger" in server.get("/")[1].decode()
    assert all(line["level"] == "info" for line in server.logs())


def test_waiting_for_the_database_blocks_no_other_request_and_a_busy_pool_is_still_ready(server, migrated):
    answers = []
    with connect(migrated) as connection, connection.transaction():
        connection.execute("LOCK TABLE message")
        waiting = [
            threading.Thread(target=lambda: answers.append(server.get("/")[0].status)) for _ in range(2)
        ]
        for thread in waiting:
            thread.start()
        time.sleep(0.3)
        begin = time.monotonic()
        assert server.get("/livez")[0].status == 200
        assert time.monotonic() - begin < 0.5
        assert server.get("/")[0].status == 503, "both connections are in use"
        time.sleep(1)
        assert json.loads(server.get("/readyz")[1])["status"] == "ready"
    for thread in waiting:
        thread.join()
    assert answers == [200, 200]


def test_newer_schema_is_ready_and_a_missing_one_is_not(server, migrated):
    with connect(migrated) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of a later release'")
        time.sleep(1.1)
        assert server.get("/readyz")[0].status == 200
        connection.execute("DELETE FROM alembic_version")
        time.sleep(1.1)
        answer, body = server.get("/readyz")
    assert (answer.status, json.loads(body)["checks"][0]["error"]) == (503, "PendingMigrations")


def test_migrations_take_turns_and_give_up_on_a_table_in_use(migrated):
    assert flask_db(migrated, "check").exit_code == 0, "models and migrations differ"
    with connect(migrated) as connection, connection.transaction():
        connection.execute("SELECT * FROM message")
        done = flask_db(migrated, "downgrade", "base", MIGRATION_LOCK_TIMEOUT_SECONDS="1")
        assert "lock timeout" in str(done.exception)
    assert flask_db(migrated, "downgrade", "base").exit_code == 0
    command = [sys.executable, "-m", "flask", "--app", "inbox", "db", "upgrade"]
    env = {**os.environ, "DATABASE_URL": migrated}
    upgrades = [subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [upgrade.wait(30) for upgrade in upgrades] == [0, 0]
    with connect(migrated) as connection:
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
