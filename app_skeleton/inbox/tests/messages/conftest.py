import json
import time
from secrets import token_hex

import pytest
from databases import emptied
from inbox.messages.signatures import sign
from inbox.messages.sources import Source
from inbox.models import db


class Sender:
    """Signs webhooks as GitHub and Stripe do, and sends them to the app."""

    def __init__(self):
        self.secret = token_hex()

    def sources(self):
        return {name: Source(name, name, (self.secret,)) for name in ("github", "stripe")}

    def github(self, client, delivery_id="d-1", event="push", body=None, **headers):
        body = json.dumps({"ref": f"refs/heads/{delivery_id}"}).encode() if body is None else body
        signed = {
            "X-Hub-Signature-256": f"sha256={sign(self.secret, body)}",
            "X-GitHub-Delivery": delivery_id,
            "X-GitHub-Event": event,
        }
        return self._send(client, "github", body, {**signed, **headers})

    def stripe(self, client, delivery_id="evt_1", event="charge.succeeded", moment=None):
        body = json.dumps({"id": delivery_id, "type": event}).encode()
        moment = int(time.time()) if moment is None else moment
        signature = sign(self.secret, f"{moment}.".encode() + body)
        return self._send(client, "stripe", body, {"Stripe-Signature": f"t={moment},v1={signature}"})

    def _send(self, client, source, body, headers):
        return client.post(f"/hooks/{source}", data=body, content_type="application/json", headers=headers)


@pytest.fixture
def sender():
    return Sender()


@pytest.fixture
def app(make_app, sender):
    return make_app(WEBHOOK_SOURCES=sender.sources())


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, tmp_path):
    """The address of an empty database, of both kinds in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/inbox.sqlite"
    return emptied(request.getfixturevalue("postgresql"))


@pytest.fixture
def app_on_both(make_app, sender, database):
    """The app on a database of both kinds in turn, and its context."""
    app = make_app(SQLALCHEMY_DATABASE_URI=database, WEBHOOK_SOURCES=sender.sources())
    with app.app_context():
        yield app
        db.session.remove()
        db.engine.dispose()
