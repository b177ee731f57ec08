"""Hand a message on to the service that acts on it: RELAY_URL.

At least once: a worker may be killed after the other side has taken the message and before that is written
down. ``Idempotency-Key`` is the same then, so the other side can tell.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import string
from functools import cache
from urllib.parse import quote

import httpx
from flask import current_app

from .models import Message
from .signatures import sign

#: Longer than anybody is asked to wait before a retry.
RETRY_AFTER_MAX_SECONDS = 3600
_PASSING = {408, 425, 429, *range(500, 600)}
#: Stays as it is in a header. "%" does not: what was encoded must not look like what came so.
_PLAIN = string.punctuation.replace("%", "")


class Passing(Exception):
    """It did not work and may work later.

    :param retry_after_seconds: how long the other side asked to be left alone, None if it did not say.
    """

    def __init__(self, reason: str, retry_after_seconds: int | None = None) -> None:
        """Keep both."""
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class Final(Exception):
    """It did not work and will not, until somebody changes something."""


def relay(message: Message) -> None:
    """Send a message on, where the app is told to.

    :raises Passing: if the other side is away, busy or broken.
    :raises Final: if the other side refuses it.
    """
    url = current_app.config["RELAY_URL"]
    if not url:
        return
    content = message.body.encode()
    # The earlier release stored messages without an id, of sources with any name.
    known_as = message.delivery_id or f"message-{message.id}"
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": _word(f"{message.source}:{known_as}:{message.replay_count}"),
        "X-Inbox-Source": _word(message.source),
        "X-Inbox-Event": _word(message.event),
    }
    secret = current_app.config["RELAY_SECRET"]
    if secret:
        headers["X-Inbox-Signature-256"] = f"sha256={sign(secret, content)}"
    try:
        # Flask's way to call it works under gevent too: without a broker tasks run in the web app.
        post = current_app.async_to_sync(_post)
        answer = post(url, content, headers, current_app.config["RELAY_TIMEOUT_SECONDS"])
    except (httpx.HTTPError, TimeoutError) as error:
        # Without its words: they may quote the address.
        raise Passing(f"The service at RELAY_URL did not answer: {type(error).__name__}.") from error
    if answer.is_success:
        return
    reason = f"The service at RELAY_URL answered {answer.status_code}."
    if answer.status_code in _PASSING:
        raise Passing(reason, _retry_after(answer.headers.get("Retry-After", "")))
    raise Final(reason)


def _retry_after(text: str) -> int | None:
    return min(int(text), RETRY_AFTER_MAX_SECONDS) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _word(text: str) -> str:
    return quote(text, safe=_PLAIN)


async def _post(url: str, content: bytes, headers: dict[str, str], seconds: float) -> httpx.Response:
    """Send a request; return the answer's head.

    The body is left unread: nobody asks for it, and it may be of any size, or a few bytes that fill the
    memory once they are unpacked. So each attempt has a connection of its own.

    :param seconds: for all of it. httpx's own limit is for each time it reads or writes: an answer that drips
        would outlast the lease.
    """
    async with (
        asyncio.timeout(seconds),
        httpx.AsyncClient(timeout=seconds, follow_redirects=False, verify=_trusted()) as client,
        client.stream("POST", url, content=content, headers=headers) as answer,
    ):
        return answer


@cache
def _trusted() -> ssl.SSLContext:
    """Return whose certificates are believed; reading them takes longer than a request."""
    return httpx.create_ssl_context()
