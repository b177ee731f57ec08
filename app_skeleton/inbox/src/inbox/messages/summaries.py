"""Say in a line what a webhook is about."""

from __future__ import annotations

from typing import Any

from .models import TITLE_MAX_CHARACTERS


def title(scheme: str, event: str, payload: dict[str, Any]) -> str:
    """Return a line for lists and searches; it never fails, whatever the payload holds.

    :param scheme: the source's scheme.
    :param event: the sender's word for what happened.
    :param payload: the webhook's body, parsed.
    """
    words = {"github": _github, "stripe": _stripe}.get(scheme, _nothing)(payload)
    line = " ".join([event, *(word for word in words if word)])
    # Neither lone surrogates nor NUL can be stored, and a line is one line.
    line = line.encode("utf-8", "replace").decode().replace("\0", "")
    return " ".join(line.split())[:TITLE_MAX_CHARACTERS]


def _github(payload: dict[str, Any]) -> list[str]:
    subject = next(
        (
            payload[name]
            for name in ("pull_request", "issue", "release")
            if isinstance(payload.get(name), dict)
        ),
        {},
    )
    return [
        _text(payload, "action"),
        _text(payload, "repository", "full_name"),
        _text(subject, "title") or _text(subject, "name") or _text(payload, "ref"),
        _by(_text(payload, "sender", "login")),
    ]  # fmt: skip


def _stripe(payload: dict[str, Any]) -> list[str]:
    data = payload.get("data")
    thing = data.get("object") if isinstance(data, dict) else None
    if not isinstance(thing, dict):
        return []
    amount, currency = thing.get("amount"), _text(thing, "currency")
    money = f"{amount} {currency}" if isinstance(amount, int) and currency else ""
    return [_text(thing, "id"), money, _text(thing, "description")]


def _nothing(payload: dict[str, Any]) -> list[str]:
    return []


def _by(name: str) -> str:
    return f"by {name}" if name else ""


def _text(value: Any, *path: str) -> str:
    """Return the text at a path of keys, empty if there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""
