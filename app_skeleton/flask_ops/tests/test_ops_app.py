"""init_app in one process: pages, metrics, readiness of a database."""

import json

import flask_ops
import pytest
import sqlalchemy as sa
from flask import Flask
from flask_migrate import Migrate
from flask_ops import checks
from flask_ops.health import CACHE_SECONDS, Readiness
from flask_ops.middleware import OpsMiddleware, is_internal
from flask_sqlalchemy import SQLAlchemy
from werkzeug.middleware.proxy_fix import ProxyFix

INTERNAL = {"X-Ops-Internal": "1"}


@pytest.fixture
def app():
    app = Flask("shop")

    @app.before_request
    def refuse():
        return "closed", 418

    flask_ops.init_app(app)
    return app


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/startupz", "/version"])
def test_pages_answer_whatever_the_app_does(app, path):
    app.config["SERVER_NAME"] = "shop.example"
    app.config["TRUSTED_HOSTS"] = ["shop.example"]
    client = app.test_client()
    answer = client.get(path, headers={"Host": "10.0.0.1"})
    assert (answer.status_code, answer.json["release"]) == (200, "dev")
    assert (answer.cache_control.no_store, answer.headers["X-Request-ID"] != "") == (True, True)
    head = client.head(path)
    assert (head.data, head.content_length) == (b"", answer.content_length)
    refused = client.post(path)
    assert (refused.status_code, refused.headers["Allow"]) == (405, "GET, HEAD")
    assert client.get("/", headers={"Host": "shop.example"}).status_code == 418


def test_version_tells_the_public_nothing_about_the_host(app, monkeypatch):
    monkeypatch.setenv("RELEASE_REVISION", "c0ffee")
    client = app.test_client()
    assert client.get("/version").json == {"release": "dev", "revision": "c0ffee", "built_at": None}
    assert "python" in client.get("/version", headers=INTERNAL).json


@pytest.mark.parametrize(
    ("environ", "internal"),
    [
        ({"REMOTE_ADDR": "", "HTTP_X_OPS_INTERNAL": "1", "HTTP_X_FORWARDED_FOR": "203.0.113.9"}, True),
        ({"REMOTE_ADDR": ""}, True),
        ({"REMOTE_ADDR": "", "HTTP_X_FORWARDED_FOR": ""}, False),
        ({"REMOTE_ADDR": "", "HTTP_X_OPS_INTERNAL": "0", "HTTP_X_FORWARDED_FOR": "203.0.113.9"}, False),
        ({"REMOTE_ADDR": "127.0.0.1"}, False),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_OPS_INTERNAL": "1"}, True),
        ({"REMOTE_ADDR": "203.0.113.9", "HTTP_X_OPS_INTERNAL": "1"}, False),
    ],
)
def test_internal_is_what_nginx_or_the_socket_says(environ, internal):
    assert is_internal(environ) is internal


def test_proxy_fix_around_the_pages_does_not_make_strangers_internal(app):
    app.wsgi_app = ProxyFix(app.wsgi_app)
    client = app.test_client()
    remote = {"REMOTE_ADDR": "", "HTTP_X_FORWARDED_FOR": "203.0.113.9"}
    assert client.get("/metrics", environ_overrides=remote).status_code == 404
    assert client.get("/metrics", environ_overrides=remote, headers=INTERNAL).status_code == 200


def test_init_app_twice_is_refused(app):
    with pytest.raises(RuntimeError, match="called twice"):
        flask_ops.init_app(app)


def test_openmetrics_is_given_to_who_asks(app):
    answer = app.test_client().get(
        "/metrics", headers={**INTERNAL, "Accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert answer.content_type.startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_middleware_without_metrics_has_no_metrics_page():
    sent = []
    answer = OpsMiddleware(lambda *a: [], readiness=Readiness())(
        {"PATH_INFO": "/metrics", "REQUEST_METHOD": "GET", "REMOTE_ADDR": ""},
        lambda status, *rest: sent.append(status),
    )
    assert (sent, list(answer)) == (["404 Not Found"], [b"Not Found\n"])


MIGRATION = """
from alembic import op
import sqlalchemy as sa
revision = {revision!r}
down_revision = {parent!r}
def upgrade(): op.create_table("t{revision}", sa.Column("id", sa.Integer))
def downgrade(): op.drop_table("t{revision}")
"""


@pytest.fixture
def database(tmp_path):
    """An app with a SQLite file, two migrations, and none applied; return a function that asks /readyz."""
    scripts = tmp_path / "migrations"
    (scripts / "versions").mkdir(parents=True)
    (scripts / "alembic.ini").write_text("[alembic]\n")
    for revision, parent in (("a", None), ("b", "a")):
        (scripts / "versions" / f"{revision}.py").write_text(
            MIGRATION.format(revision=revision, parent=parent)
        )
    app, db = Flask("shop"), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/shop.sqlite"
    db.init_app(app)
    Migrate(app, db, directory=str(scripts))
    ops = flask_ops.init_app(app, checks=[checks.sqlalchemy(db)])

    def ready():
        ops.readiness._fresh_until = 0.0
        return app.test_client().get("/readyz", headers=INTERNAL)

    def at(*revisions):
        with app.app_context(), db.engine.begin() as connection:
            connection.execute(
                sa.text("CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32))")
            )
            connection.execute(sa.text("DELETE FROM alembic_version"))
            for revision in revisions:
                connection.execute(sa.text("INSERT INTO alembic_version VALUES (:r)"), {"r": revision})

    return ready, at


def test_database_lacking_a_migration_is_not_ready_and_one_ahead_is(database):
    ready, at = database
    for revisions, status in [
        ((), 503),
        (("a",), 503),
        (("b",), 200),
        (("b",), 200),
        (("of a later release",), 200),
    ]:
        if revisions:
            at(*revisions)
        answer = ready()
        assert answer.status_code == status, json.dumps(answer.json)
        if status == 503:
            assert answer.json["checks"][0]["error"] == "PendingMigrations"


def test_database_without_flask_migrate_needs_only_to_answer(tmp_path):
    app, db = Flask("shop"), SQLAlchemy()
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/absent/shop.sqlite"
    db.init_app(app)
    ops = flask_ops.init_app(app, checks=[checks.sqlalchemy(db, name="main-db")])
    answer = app.test_client().get("/readyz", headers=INTERNAL)
    assert (answer.status_code, answer.json["checks"][0]["error"]) == (503, "OperationalError")
    (tmp_path / "absent").mkdir()
    assert app.test_client().get("/readyz").status_code == 503, f"remembered for {CACHE_SECONDS} s"
    ops.readiness._fresh_until = 0.0
    assert app.test_client().get("/readyz", headers=INTERNAL).json["checks"][0]["id"] == "main-db"
    assert ops.readiness.ready()
