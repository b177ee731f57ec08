"""The JSON API."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, request, url_for

from . import messages, paging
from .models import Message

PREFIX = "/api/v1"
LIMIT_DEFAULT = 50
LIMIT_MAX = 200

bp = Blueprint("api", __name__, url_prefix=PREFIX)


@bp.get("/messages")
def list_messages() -> dict[str, Any]:
    """List messages, newest first: ``?limit=`` up to 200, ``?cursor=`` from ``next_cursor``."""
    page = messages.newest(paging.limit(LIMIT_DEFAULT, LIMIT_MAX), paging.cursor())
    return {"messages": [_shown(message) for message in page.messages], "next_cursor": page.next_cursor}


@bp.post("/messages")
def add_message() -> tuple[dict[str, Any], int, dict[str, str]]:
    """Take a message: ``{"source": "shop", "body": "order 17"}``."""
    message = messages.add(_json_body())
    return _shown(message), 201, {"Location": url_for("api.show_message", message_id=message.id)}


@bp.get("/messages/<int:message_id>")
def show_message(message_id: int) -> dict[str, Any]:
    """Show one message."""
    return _shown(messages.get(message_id) or abort(404, "There is no such message."))


def _json_body() -> object:
    data = request.get_json(silent=True, cache=False) if request.is_json else request.get_json()
    if data is None:
        abort(400, "The body is not valid JSON, or is null.")
    return data


def _shown(message: Message) -> dict[str, Any]:
    return {
        "id": message.id,
        "source": message.source,
        "body": message.body,
        "received_at": message.received_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
