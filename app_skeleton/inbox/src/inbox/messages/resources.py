"""The domain's API."""

from __future__ import annotations

from typing import Any

from flask import abort, current_app

from .. import tasks as celery_of_app
from ..api.service import Blueprint
from ..auth import tokens
from ..paging import Page, cursor_of
from . import inbox, models, providers, schemas
from .tasks import process

bp = Blueprint("messages_api", __name__, url_prefix="/messages", description="Webhooks received")
providers_bp = Blueprint("providers_api", __name__, url_prefix="/providers", description="Who sends webhooks")
BLUEPRINTS = [bp, providers_bp]


@bp.get("")
@tokens.requires("viewer")
@bp.arguments(schemas.Listing, location="query")
@bp.response(200, schemas.MessagePage)
def list_messages(given: dict[str, Any]) -> Page:
    """List messages, newest first"""
    limit, cursor = given.pop("limit"), cursor_of(given.pop("cursor", None))
    return inbox.listed(inbox.Filters(**given), limit, cursor)


@bp.get("/<int:message_id>")
@tokens.requires("viewer")
@bp.response(200, schemas.Detail)
def show_message(message_id: int) -> models.Message:
    """Show a message with its body and attempts"""
    return inbox.get(message_id) or abort(404, "There is no such message.")


@bp.post("/<int:message_id>/replay")
@tokens.requires("operator")
@bp.response(202, schemas.Replayed)
def replay_message(message_id: int) -> dict[str, list[int]]:
    """Have a message processed again; one that waits already is left alone"""
    if inbox.get(message_id) is None:
        abort(404, "There is no such message.")
    return {"ids": replay([message_id])}


@bp.post("/replay-dead")
@tokens.requires("operator")
@bp.arguments(schemas.ReplayDead, required=False)
@bp.response(202, schemas.Replayed)
def replay_dead(given: dict[str, Any]) -> dict[str, list[int]]:
    """Have the oldest messages that were given up processed again"""
    ids = inbox.replay_dead(given["limit"], given.get("source"))
    send(ids)
    return {"ids": ids}


@providers_bp.get("")
@tokens.requires("viewer")
@providers_bp.response(200, schemas.ProviderList)
async def list_providers() -> dict[str, list[providers.Provider]]:
    """Ask the senders' status pages how they are, all side by side"""
    return {"providers": await providers.ask_all(current_app.config["PROVIDER_STATUS_URLS"])}


def replay(ids: list[int]) -> list[int]:
    """Have messages processed again; return those that will be."""
    found = inbox.replay(ids)
    send(found)
    return found


def send(ids: list[int]) -> None:
    """Hand messages out now; beat does it later for those that could not be."""
    for message_id in ids:
        if not celery_of_app.send_soon(process, message_id):
            return
