"""Name the systemd units of a release: the one place to add `worker` and `beat` to."""

from __future__ import annotations

import re

# The instance nginx talks to. Kinds that follow it (Celery's) have no socket and no health answer.
WEB = "web"
MIGRATE = "migrate"


def service(app: str, release_id: str, kind: str = WEB) -> str:
    """Return the service unit of a release."""
    return f"{app}-{kind}@{release_id}.service"


def socket(app: str, release_id: str) -> str:
    """Return the socket unit that holds a release's listen queue."""
    return f"{app}-{WEB}@{release_id}.socket"


def pair(app: str, release_id: str) -> list[str]:
    """Return the units to enable for boot, socket first."""
    return [socket(app, release_id), service(app, release_id)]


def pattern(app: str) -> str:
    """Return a glob over every web unit of the app."""
    return f"{app}-{WEB}@*"


def release_of(app: str, unit: str) -> str | None:
    """Return the release id in a web unit's name, or nothing for any other unit."""
    found = re.fullmatch(rf"{re.escape(app)}-{WEB}@(.+)\.(?:service|socket)", unit)
    return found[1] if found else None
