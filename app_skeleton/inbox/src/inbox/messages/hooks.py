"""Where webhooks come in: ``POST /hooks/<source>``.

Answered 202 once the message is in the database, whatever broker and workers do.
"""

from __future__ import annotations

import time
from typing import Any

from flask import Blueprint, abort, current_app, request

from .. import tasks as celery_of_app
from . import inbox, sources
from .signatures import SCHEMES, Refused
from .tasks import process

bp = Blueprint("hooks", __name__)


@bp.post("/hooks/<source_name>")
def receive(source_name: str) -> tuple[dict[str, Any], int]:
    """Take a webhook: store it once, have it processed."""
    config = current_app.config
    source = sources.find(source_name) or abort(404, "There is no such source.")
    if not request.is_json:
        abort(415, "A webhook is JSON: choose the content type application/json where it is set up.")
    # One more than is taken: of a body without a length Werkzeug cuts off what is beyond, in silence.
    request.max_content_length = config["WEBHOOK_MAX_BYTES"] + 1
    body = request.get_data(cache=False)
    if len(body) > config["WEBHOOK_MAX_BYTES"]:
        abort(413)
    try:
        delivery = SCHEMES[source.scheme](
            request.headers,
            body,
            source.secrets,
            now=time.time(),
            tolerance=config["WEBHOOK_TOLERANCE_SECONDS"],
        )
        stored = inbox.store(source, delivery)
    except Refused as error:
        abort(error.status, error.reason)
    except inbox.Replayed:
        abort(409, "The same body came before, under another delivery id.")
    if stored.is_new:
        celery_of_app.send_soon(process, stored.message_id)
    return {"id": stored.message_id, "status": "accepted" if stored.is_new else "duplicate"}, 202
