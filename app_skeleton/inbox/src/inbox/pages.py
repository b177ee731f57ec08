"""The pages people look at."""

from __future__ import annotations

from flask import Blueprint, Response, abort, render_template

from . import messages, paging

PAGE_SIZE = 25

bp = Blueprint("pages", __name__)


@bp.after_app_request
def restrict_content(response: Response) -> Response:
    """Let the browser load this site's own styles and nothing else: strangers wrote what is shown.

    For the whole app, because the page of an address that matches no route belongs to no blueprint.
    """
    if response.mimetype != "text/html":
        return response
    response.content_security_policy.default_src = "'none'"
    response.content_security_policy.style_src = "'self'"
    response.content_security_policy.img_src = "'self'"
    response.content_security_policy.base_uri = "'none'"
    response.content_security_policy.form_action = "'none'"
    response.content_security_policy.frame_ancestors = "'none'"
    return response


@bp.get("/")
def index() -> str:
    """List messages, newest first."""
    cursor = paging.cursor()
    return render_template("index.html", page=messages.newest(PAGE_SIZE, cursor), first=cursor is None)


@bp.get("/messages/<int:message_id>")
def message(message_id: int) -> str:
    """Show one message."""
    found = messages.get(message_id) or abort(404, "There is no such message.")
    return render_template("message.html", message=found)
