import os

import pytest
from inbox import create_app
from inbox.models import db

_OURS = ("GUNICORN_", "FLASK_OPS_", "RELEASE_", "PROMETHEUS_", "APP_", "DATABASE_", "CREDENTIALS_DIRECTORY")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in os.environ:
        if name.startswith(_OURS):
            monkeypatch.delenv(name)


@pytest.fixture
def app(tmp_path):
    app = create_app({"SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path}/inbox.sqlite", "TESTING": True})
    with app.app_context():
        db.create_all()
    # Handlers answer as in production.
    app.config["PROPAGATE_EXCEPTIONS"] = False
    return app


@pytest.fixture
def client(app):
    return app.test_client()
