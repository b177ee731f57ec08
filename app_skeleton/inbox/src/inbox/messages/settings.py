"""The domain's own settings."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask_ops.settings import Reader, SettingError, credential, integer, json_value, setting

from .signatures import SCHEMES
from .sources import NAME, Source

DEFAULT_SOURCES = {"github": "github", "stripe": "stripe"}
#: What was stored is how a delivery is known again. It must outlast the time a signature is good for, and the
#: days for which senders try again, or let a person do so.
RETENTION_MIN_DAYS = 7
TOLERANCE_MAX_SECONDS = 3600


def load(read: Reader) -> dict[str, Any]:
    """Return the domain's configuration.

    :param read: collects what is wrong.
    """
    return {
        "WEBHOOK_SOURCES": read(sources, "WEBHOOK_SOURCES", {}),
        "WEBHOOK_MAX_BYTES": read(integer, "WEBHOOK_MAX_BYTES", 1024 * 1024, minimum=1024),
        "WEBHOOK_TOLERANCE_SECONDS": read(
            integer, "WEBHOOK_TOLERANCE_SECONDS", 300, minimum=1, maximum=TOLERANCE_MAX_SECONDS
        ),
        "IMPORT_MAX_BYTES": read(integer, "IMPORT_MAX_BYTES", 1024**3, minimum=1024),
        "RELAY_URL": read(address, "RELAY_URL", None),
        "RELAY_SECRET": read(credential, "relay_secret", None),
        "RELAY_TIMEOUT_SECONDS": read(integer, "RELAY_TIMEOUT_SECONDS", 10, minimum=1, maximum=240),
        "RELAY_ATTEMPTS_MAX": read(integer, "RELAY_ATTEMPTS_MAX", 8, minimum=1),
        "PROVIDER_STATUS_URLS": read(
            json_value,
            "PROVIDER_STATUS_URLS",
            {
                "GitHub": "https://www.githubstatus.com/api/v2/status.json",
                "Stripe": "https://status.stripe.com/api/v2/status.json",
            },
        ),
        "RETENTION_DAYS": read(integer, "RETENTION_DAYS", 90, minimum=RETENTION_MIN_DAYS),
    }


def sources(name: str, default: dict[str, Source]) -> dict[str, Source]:
    """Return who may send webhooks, by name.

    The setting is JSON, source name to signature scheme. A source's secret is the credential
    ``webhook_<name>``, with ``-`` written as ``_``; two lines of it are two secrets, both good: so a secret
    is changed without losing a delivery.

    :raises SettingError: if a name or a scheme is not understood.
    """
    found = {}
    for source, scheme in json_value(name, DEFAULT_SOURCES).items():
        if not NAME.fullmatch(source):
            raise SettingError(
                f"{name}: {source!r} is no name for a source: at most 40 lower-case letters, digits, dashes."
            )
        if scheme not in SCHEMES:
            raise SettingError(
                f"{name}: {source!r} has the scheme {scheme!r}; there is {', '.join(SCHEMES)}."
            )
        lines = (credential(f"webhook_{source.replace('-', '_')}", None) or "").splitlines()
        found[source] = Source(source, scheme, tuple(line.strip() for line in lines if line.strip()))
    return found


def address(name: str, default: None) -> str | None:
    """Return an http or https address.

    :raises SettingError: if it is none.
    """
    url = setting(name, default)
    if url is not None and (urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname):
        raise SettingError(f"{name} is not an http or https address.")
    return url
