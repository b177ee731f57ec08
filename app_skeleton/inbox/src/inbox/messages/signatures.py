"""Tell whether a webhook was signed by who knows the secret, and what it is called.

GitHub: ``X-Hub-Signature-256: sha256=<HMAC-SHA256 of the body>``; the delivery's id and the event stand in
headers the signature does not cover
(https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries).

Stripe: ``Stripe-Signature: t=<seconds>,v1=<HMAC-SHA256 of "t.body">[,v1=...]``; id and event stand in the
body
(https://docs.stripe.com/webhooks#verify-manually).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: What senders call deliveries and events; nothing a spreadsheet or a log could take for more than a name.
WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}")
_HEX_DIGEST = re.compile(r"[0-9a-f]{64}")


class Refused(Exception):
    """A webhook is not taken.

    :param status: the HTTP status to answer.
    :param reason: for the sender, without anything that helps to forge.
    """

    def __init__(self, status: int, reason: str) -> None:
        """Keep both."""
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook whose signature is right.

    :param delivery_id: what its sender calls it; the same again is the same delivery.
    :param event: what happened.
    :param body: as it was sent.
    :param payload: the body, parsed.
    :param digest: the body's digest where the sender's signature does not cover the id, otherwise None:
        whoever has recorded such a delivery could send it again under any other id.
    """

    delivery_id: str
    event: str
    body: str
    payload: dict[str, Any]
    digest: str | None


def github(headers: Mapping[str, str], body: bytes, secrets: Iterable[str], **_: float) -> Delivery:
    """Check a delivery by GitHub's scheme.

    :param headers: of the request.
    :param body: of the request, byte for byte.
    :param secrets: each is good.
    :raises Refused: if it is not signed by one of them, or not what GitHub sends.
    """
    scheme, _separator, given = headers.get("X-Hub-Signature-256", "").partition("=")
    if scheme != "sha256" or not _signed([given], body, secrets):
        raise Refused(403, "The signature in X-Hub-Signature-256 is missing or wrong.")
    text, payload = _parsed(body)
    return Delivery(
        delivery_id=_word(headers.get("X-GitHub-Delivery"), "X-GitHub-Delivery"),
        event=_word(headers.get("X-GitHub-Event"), "X-GitHub-Event"),
        body=text,
        payload=payload,
        digest=hashlib.sha256(body).hexdigest(),
    )


def stripe(
    headers: Mapping[str, str], body: bytes, secrets: Iterable[str], *, now: float, tolerance: float
) -> Delivery:
    """Check a delivery by Stripe's scheme.

    :param now: the time, in seconds since the epoch.
    :param tolerance: how many seconds a signature may be old, or ahead.
    :raises Refused: if it is not signed by one of the secrets, not in time, or not what Stripe sends.
    """
    parts = [part.strip().partition("=")[::2] for part in headers.get("Stripe-Signature", "").split(",")]
    moments = [value for name, value in parts if name == "t"]
    given = [value for name, value in parts if name == "v1"]
    # Ten digits are seconds until the year 2286.
    if len(moments) != 1 or not re.fullmatch(r"[0-9]{1,10}", moments[0]):
        raise Refused(403, "The signature in Stripe-Signature is missing or wrong.")
    if not _signed(given, moments[0].encode() + b"." + body, secrets):
        raise Refused(403, "The signature in Stripe-Signature is missing or wrong.")
    # After the signature: a stranger learns nothing of this clock.
    if abs(now - int(moments[0])) > tolerance:
        raise Refused(403, f"The signature is more than {tolerance:g} seconds off; is the clock right?")
    text, payload = _parsed(body)
    return Delivery(
        delivery_id=_word(payload.get("id"), "id"),
        event=_word(payload.get("type"), "type"),
        body=text,
        payload=payload,
        digest=None,
    )


Scheme = Callable[..., Delivery]
SCHEMES: dict[str, Scheme] = {"github": github, "stripe": stripe}


def sign(secret: str, content: bytes) -> str:
    """Return HMAC-SHA256 in hexadecimal."""
    return hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


def _signed(given: Iterable[str], content: bytes, secrets: Iterable[str]) -> bool:
    wanted = [sign(secret, content) for secret in secrets]
    # Every pair is compared, so that the time says nothing about which one came near.
    found = False
    for value in given:
        if _HEX_DIGEST.fullmatch(value):
            for digest in wanted:
                found |= hmac.compare_digest(value, digest)
    return found


def _parsed(body: bytes) -> tuple[str, dict[str, Any]]:
    try:
        text = body.decode("utf-8")
        payload = json.loads(text)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise Refused(400, "The body is not JSON in UTF-8.") from error
    if not isinstance(payload, dict):
        raise Refused(400, "The body is not a JSON object.")
    if "\0" in text:  # not JSON, but Python's parser is lenient in places; PostgreSQL cannot store it
        raise Refused(400, "The body holds a NUL.")
    return text, payload


def _word(value: object, name: str) -> str:
    if not isinstance(value, str) or not WORD.fullmatch(value):
        raise Refused(400, f"{name} is missing, or holds more than letters, digits and . _ : / -")
    return value
