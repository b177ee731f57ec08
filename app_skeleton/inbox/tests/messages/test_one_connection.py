"""A worker with a single connection to its database serves everything: nobody holds one and waits."""

import asyncio
import threading

import pytest
from inbox.messages import providers
from inbox.models import db


@pytest.fixture
def app(make_app, sender, postgresql_database):
    app = make_app(
        SQLALCHEMY_DATABASE_URI=postgresql_database,
        SQLALCHEMY_ENGINE_OPTIONS={"pool_size": 1, "max_overflow": 0, "pool_timeout": 1},
        WEBHOOK_SOURCES=sender.sources(),
    )
    yield app
    with app.app_context():
        db.engine.dispose()


def test_export_needs_no_connection_beside_that_of_whoever_asks(app, client, sign_in, sender):
    sender.github(client)
    sign_in("viewer")
    answer = client.get("/files/messages.csv")
    assert (answer.status_code, answer.text.count("\n")) == (200, 2), answer.text


def test_webhook_is_taken_while_somebody_waits_for_providers(app, client, sign_in, sender, monkeypatch):
    asked, go = threading.Event(), threading.Event()

    async def slow(_addresses):
        asked.set()
        await asyncio.to_thread(go.wait, 10)
        return []

    monkeypatch.setattr(providers, "ask_all", slow)
    sign_in("viewer")
    waiting = threading.Thread(target=client.get, args=("/messages/providers",))
    waiting.start()
    try:
        assert asked.wait(5)
        assert sender.github(app.test_client()).status_code == 202
    finally:
        go.set()
        waiting.join()
