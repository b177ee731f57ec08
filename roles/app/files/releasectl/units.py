"""Name the systemd units of a release."""

from __future__ import annotations

import re
from collections.abc import Iterable

# The instance nginx talks to.
WEB = "web"
MIGRATE = "migrate"
CONTRACT = "contract"
# What follows it, without a socket or a health answer of its own, in the order it is started in: Celery's.
WORKER, BEAT, FLOWER = "worker", "beat", "flower"
COMPANIONS = (WORKER, BEAT, FLOWER)
# Where an app's own programs have a say, or are told how it ended: see hooks.py.
BEFORE_SWITCH = "before_switch"
ENDS = ("deployed", "rolled_back", "failed")
HOOK_POINTS = (BEFORE_SWITCH, *ENDS)


def service(app: str, release_id: str, kind: str = WEB) -> str:
    """Return the service unit of a release."""
    return f"{app}-{kind}@{release_id}.service"


def socket(app: str, release_id: str) -> str:
    """Return the socket unit that holds a release's listen queue."""
    return f"{app}-{WEB}@{release_id}.socket"


def pair(app: str, release_id: str) -> list[str]:
    """Return the web units of a release, socket first."""
    return [socket(app, release_id), service(app, release_id)]


def companions(app: str, release_id: str, kinds: Iterable[str] = COMPANIONS) -> list[str]:
    """Return the companion units of a release.

    :param kinds: which.
    """
    return [service(app, release_id, kind) for kind in kinds]


def pattern(app: str) -> str:
    """Return a glob over every web unit of the app."""
    return f"{app}-{WEB}@*"


def companion_patterns(app: str) -> list[str]:
    """Return globs over every companion unit of the app."""
    return [f"{app}-{kind}@*" for kind in COMPANIONS]


def release_of(app: str, unit: str) -> str | None:
    """Return the release id in a web unit's name, or nothing for any other unit."""
    found = re.fullmatch(rf"{re.escape(app)}-{WEB}@(.+)\.(?:service|socket)", unit)
    return found[1] if found else None


def companion_of(app: str, unit: str) -> tuple[str, str] | None:
    """Return kind and release id of a companion unit's name, or nothing for any other unit."""
    found = re.fullmatch(rf"{re.escape(app)}-({'|'.join(COMPANIONS)})@(.+)\.service", unit)
    return (found[1], found[2]) if found else None
