"""Send a site's sample app signed webhooks, and read its API, as another program would."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.https import Answer, Client

ADMIN = "admin@localhost"
HOOK = "/hooks/github"


@dataclass(frozen=True)
class Sender:
    """A sender that the app knows, and a user of its API.

    :param web: a client of the app.
    :param secrets_dir: where the inventory's secrets are made, one file each.
    """

    web: Client
    secrets_dir: Path

    def secret(self, name: str) -> str:
        """Return one of the app's secrets."""
        return (self.secrets_dir / name).read_text().strip()

    def headers(self, delivery_id: str, body: bytes, event: str = "push") -> dict[str, str]:
        """Return the headers GitHub sends with a delivery."""
        digest = hmac.new(self.secret("webhook_github").encode(), body, hashlib.sha256).hexdigest()
        return {
            "Content-Type": "application/json",
            "X-Hub-Signature-256": f"sha256={digest}",
            "X-GitHub-Delivery": delivery_id,
            "X-GitHub-Event": event,
        }

    def send(self, delivery_id: str, payload: Any = None, event: str = "push") -> Answer:
        """Deliver a webhook."""
        body = body_of(delivery_id) if payload is None else json.dumps(payload).encode()
        return self.web.request("POST", HOOK, headers=self.headers(delivery_id, body, event), body=body)

    def bearer(self) -> dict[str, str]:
        """Sign in to the API; return the header to ask it with."""
        answer = self.web.post_json(
            "/api/v1/tokens", {"email": ADMIN, "password": self.secret("admin_password")}
        )
        assert answer.status == 201, answer.text[:500]
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def body_of(delivery_id: str) -> bytes:
    """Return a body that no other delivery has."""
    return json.dumps({"ref": f"refs/heads/{delivery_id}"}).encode()
