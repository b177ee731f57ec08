"""Say which lines of the logs are wanted, and refuse what cannot be asked for."""

from __future__ import annotations

import dataclasses
import re
import time

from releasectl import clock
from releasectl.layout import RELEASE_ID

LEVELS = ("debug", "info", "warning", "error", "critical")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
AGO = re.compile(r"([1-9]\d{0,4})([smhd])")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d)?Z")
# What is right for each, as a pattern and in words. The edge's ids are 32 hex digits; an app may make its own
# of these letters, and a task that no request caused has one of Celery's.
RIGHT = {
    "request_id": (
        re.compile(r"[A-Za-z0-9_.-]{8,128}"),
        "8 to 128 letters, digits, _, . or -, as X-Request-ID has it",
    ),
    "since": (None, "a time ago such as 15m, 2h or 7d (s, m, h, d), or a moment such as 2026-01-31T12:00Z"),
    "until": (None, "a time ago such as 5m, or a moment such as 2026-01-31T12:30Z, later than since"),
    "level": (re.compile("|".join(LEVELS)), f"one of {', '.join(LEVELS)}: that and what is worse"),
    "release": (RELEASE_ID, "a release's id, such as 20260131T120000Z-0123abc"),
    "status": (re.compile(r"[1-5](?:xx|\d\d)"), "a status such as 502, or a class of them such as 5xx"),
    "grep": (re.compile(r"[^\x00-\x1f\x7f]{1,200}"), "a text of one line, 200 characters at most"),
    "lines": (re.compile(r"[1-9]\d{0,3}"), "a whole number from 1 to 9999"),
}
# How far back one looks who does not say: for a request, whose task may have waited, and for lines of any.
REQUEST_SINCE, LINES_SINCE = "24h", "15m"
# Of one request nobody wants to miss a line; the bound is against an app that writes in a loop.
REQUEST_LINES, LINES = 5000, 200


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Which lines: those that are all of this.

    :param since: not before, seconds since the epoch.
    :param until: not after.
    :param request_id: what one request caused, or a task that none did.
    :param level: this bad at least.
    :param release: written by this release, or answered by it.
    :param status: nginx's lines alone, of answers with this status or class of them.
    :param grep: a text in the words, upper and lower case alike.
    :param lines: the newest so many.
    """

    since: float
    until: float
    request_id: str = ""
    level: str = ""
    release: str = ""
    status: str = ""
    grep: str = ""
    lines: int = LINES


def problems(asked: dict[str, str]) -> dict[str, str]:
    """Return what is wrong with a question, by the name of the value: what would be right.

    :param asked: values by name, as a person typed them; empty where it does not matter.
    """
    found = {name: RIGHT[name][1] for name, value in asked.items() if value and not _is_right(name, value)}
    if not found and asked.get("until") and _moment(asked["until"], 0) <= _moment(_since(asked), 0):
        found["until"] = RIGHT["until"][1]
    return found


def wanted(asked: dict[str, str]) -> Wanted:
    """Return what a question asks for that has no problems."""
    now = time.time()
    given = {name: value for name, value in asked.items() if value}
    given["since"] = _moment(_since(asked), now)
    given["until"] = _moment(asked["until"], now) if asked.get("until") else now
    given["lines"] = int(asked.get("lines") or (REQUEST_LINES if asked.get("request_id") else LINES))
    return Wanted(**given)


def _is_right(name: str, value: str) -> bool:
    if name in ("since", "until"):
        return _moment(value, 0) is not None
    return bool(RIGHT[name][0].fullmatch(value))


def _since(asked: dict[str, str]) -> str:
    return asked.get("since") or (REQUEST_SINCE if asked.get("request_id") else LINES_SINCE)


def _moment(text: str, now: float) -> float | None:
    """Return when that is, seconds since the epoch; nothing for what is neither a moment nor a time ago."""
    if ago := AGO.fullmatch(text):
        return now - int(ago[1]) * UNITS[ago[2]]
    return clock.parse(text) if INSTANT.fullmatch(text) else None
