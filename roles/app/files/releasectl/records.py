"""Read lines that are one JSON object each: the ledger's, the journal's, nginx's."""

from __future__ import annotations

import json
from collections.abc import Collection

# Of an app's line of log: what every one of them has.
COMMON = {"timestamp", "level", "event", "logger", "request_id", "release", "service"}


def parse(text: str | bytes) -> dict | None:
    """Return the object a line holds, or nothing where it is no JSON or something else."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def words(record: dict, but: Collection[str] = ()) -> str:
    """Return what an app's line of log says, for a person.

    :param but: fields that are told elsewhere.
    """
    return f"{record.get('level', 'info')}: {said(record, but)}"


def said(record: dict, but: Collection[str] = ()) -> str:
    """Return what it says without its level."""
    more = [f"{name}={value}" for name, value in record.items() if name not in COMMON and name not in but]
    return " ".join([str(record.get("event")), *more])
