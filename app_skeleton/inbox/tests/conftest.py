import os

import pytest
from inbox import create_app
from inbox.auth import users
from inbox.models import db
from people import PASSWORD

_OURS = (
    "GUNICORN_", "FLASK_OPS_", "RELEASE_", "PROMETHEUS_", "APP_", "DATABASE_", "CREDENTIALS_DIRECTORY",
    "REDIS_", "BROKER_", "STORAGE_", "STATIC_",
)  # fmt: skip

#: What a test asks for that starts a server, as a fixture or as a parameter.
_SERVERS = {
    "postgresql_server", "postgresql", "redis_server", "redis", "server", "flaky", "s3", "stack", "browser",
}  # fmt: skip


def pytest_configure(config):
    config.addinivalue_line("markers", "servers: starts servers or other processes; the rest are unit tests")


def pytest_collection_modifyitems(items):
    for item in items:
        parameters = item.callspec.id.split("-") if hasattr(item, "callspec") else []
        if _SERVERS & {*item.fixturenames, *parameters}:
            item.add_marker(pytest.mark.servers)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in os.environ:
        if name.startswith(_OURS):
            monkeypatch.delenv(name)


def configuration(folder, **overrides):
    return {
        "SQLALCHEMY_DATABASE_URI": "sqlite://",
        "STORAGE_URL": f"file://{folder}/files",
        "TESTING": True,
        # Handlers answer as in production.
        "PROPAGATE_EXCEPTIONS": False,
        "RATELIMIT_ENABLED": False,
        "WTF_CSRF_ENABLED": False,
        **overrides,
    }


@pytest.fixture
def make_app(tmp_path):
    """Make an app with an empty database of its own, and further configuration."""

    def make(**overrides):
        app = create_app(configuration(tmp_path, **overrides))
        with app.app_context():
            db.create_all()
        return app

    return make


@pytest.fixture
def app(make_app):
    return make_app()


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def add_user(app):
    """Make a user of a role; return the address to sign in with."""

    def add(role="admin", email=None):
        with app.app_context():
            return users.add(email or f"{role}@example.org", PASSWORD, role).email

    return add


@pytest.fixture
def sign_in(client, add_user):
    """Sign in as a user of a role, by the page."""

    def sign_in(role="admin", client=client):
        email = add_user(role)
        answer = client.post("/auth/sign-in", data={"email": email, "password": PASSWORD})
        assert answer.status_code == 303, answer.text
        return email

    return sign_in


@pytest.fixture
def bearer(client, add_user):
    """Return the header of a token of a role."""

    def bearer(role="admin"):
        answer = client.post("/api/v1/tokens", json={"email": add_user(role), "password": PASSWORD})
        assert answer.status_code == 201, answer.text
        return {"Authorization": f"Bearer {answer.json['access_token']}"}

    return bearer
