"""A refresh token is not used up by an answer that says to come back later."""

import psycopg
import pytest
from inbox.auth import users
from inbox.models import db
from people import PASSWORD


@pytest.fixture
def app(make_app, postgresql_database):
    one = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.5}
    app = make_app(SQLALCHEMY_DATABASE_URI=postgresql_database, SQLALCHEMY_ENGINE_OPTIONS=one)
    with app.app_context():
        users.add("admin@example.org", PASSWORD, "admin")
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def token(client):
    credentials = {"email": "admin@example.org", "password": PASSWORD}
    return client.post("/api/v1/tokens", json=credentials).json["refresh_token"]


def refresh(client, token):
    return client.post("/api/v1/tokens/refresh", headers={"Authorization": f"Bearer {token}"})


def is_asked_to_wait(answer):
    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json"), answer.text
    return int(answer.headers["Retry-After"]) > 0


def goes_on(client, token):
    """Return whether a token is good for the next pair, and that for the one after it."""
    answer = refresh(client, token)
    assert answer.status_code == 201, answer.text
    return refresh(client, answer.json["refresh_token"]).status_code == 201


def test_token_is_still_good_after_every_connection_was_busy(app, client, token):
    with app.app_context(), db.engine.connect():
        assert is_asked_to_wait(refresh(client, token))
    assert goes_on(client, token)


def test_token_is_still_good_after_the_database_was_away(app, client, token, postgresql, postgresql_database):
    name = postgresql_database.partition("?")[0].rpartition("/")[2]
    with app.app_context():
        db.engine.dispose()
    with psycopg.connect(postgresql.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        assert is_asked_to_wait(refresh(client, token))
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert goes_on(client, token)


def test_no_connection_is_held_while_the_store_is_asked(app, client, token, monkeypatch):
    kept, held = app.extensions["store"], []
    add = kept.add

    def asked(*given):
        held.append(db.engine.pool.checkedout())
        return add(*given)

    monkeypatch.setattr(kept, "add", asked)
    assert goes_on(client, token)
    assert held == [0, 0]
