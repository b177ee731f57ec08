"""Who may send webhooks."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from flask import current_app

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Source:
    """A sender.

    :param name: as it stands in the address, ``/hooks/<name>``.
    :param scheme: how it signs; a key of :data:`inbox.messages.signatures.SCHEMES`.
    :param secrets: each is good; none: nothing it sends is taken.
    """

    name: str
    scheme: str
    secrets: tuple[str, ...] = field(repr=False)


def find(name: str) -> Source | None:
    """Return a source of the current app by name."""
    return current_app.config["WEBHOOK_SOURCES"].get(name)


def known() -> list[Source]:
    """Return the current app's sources."""
    return list(current_app.config["WEBHOOK_SOURCES"].values())
