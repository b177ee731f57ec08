"""The domain's pages."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from ..admin import Entry
from ..auth import sessions
from ..models import now
from ..paging import cursor_of
from . import inbox, payloads, providers, resources, sources
from .filter_form import FilterForm
from .schemas import REPLAY_MAX
from .words import IMPORT_WORDS, OUTCOME_WORDS, PROVIDER_WORDS, STATUS_WORDS

PAGE_SIZE = 25
NAVIGATION = (
    Entry("Messages", "messages.index"),
    Entry("Imports", "files.list_imports"),
    Entry("Reports", "files.list_reports"),
    Entry("Providers", "messages.show_providers"),
)

bp = Blueprint("messages", __name__, url_prefix="/messages", template_folder="templates")


@bp.app_context_processor
def words() -> dict[str, dict[str, str]]:
    """Give templates the names of states."""
    return {
        "status_words": STATUS_WORDS,
        "outcome_words": OUTCOME_WORDS,
        "import_words": IMPORT_WORDS,
        "provider_words": PROVIDER_WORDS,
    }


@bp.get("")
@sessions.requires("viewer")
def index() -> str | tuple[str, int]:
    """List messages, newest first."""
    form = FilterForm()
    cursor = cursor_of(request.args.get("cursor"))
    is_good = form.validate()
    page = inbox.listed(form.wanted(), PAGE_SIZE, cursor) if is_good else None
    html = render_template(
        "messages/index.html",
        form=form,
        page=page,
        first=cursor is None,
        counts=inbox.counts(),
        sources=sources.known(),
    )
    return html if is_good else (html, 400)


@bp.get("/<int:message_id>")
@sessions.requires("viewer")
def show(message_id: int) -> str:
    """Show a message with its body and attempts."""
    found = inbox.get(message_id) or abort(404, "There is no such message.")
    return render_template("messages/show.html", message=found, payload=payloads.shown(found.body))


@bp.get("/<int:message_id>/body")
@sessions.requires("viewer")
def body(message_id: int) -> Response:
    """Give a message's body as it was sent, for keeping and not for showing: a stranger wrote it."""
    found = inbox.get(message_id) or abort(404, "There is no such message.")
    answer = Response(found.body, mimetype="text/plain")
    answer.headers["Content-Disposition"] = f'attachment; filename="message-{found.id}.txt"'
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Cache-Control"] = "no-store"
    return answer


@bp.post("/<int:message_id>/replay")
@sessions.requires("operator")
def replay(message_id: int) -> Response:
    """Have a message processed again."""
    done = resources.replay([message_id])
    flash(
        "The message is being processed again."
        if done
        else "It waits already, or is gone: nothing was changed."
    )
    return redirect(url_for("messages.show", message_id=message_id), 303)


@bp.get("/replay-dead")
@sessions.requires("operator")
def confirm_replay_dead() -> str:
    """Ask whether all messages that were given up are meant."""
    return render_template("messages/replay_dead.html", count=inbox.counts()["dead"], at_once=REPLAY_MAX)


@bp.post("/replay-dead")
@sessions.requires("operator")
def replay_dead() -> Response:
    """Have the oldest messages that were given up processed again."""
    ids = inbox.replay_dead(REPLAY_MAX)
    resources.send(ids)
    what = "1 message is" if len(ids) == 1 else f"{len(ids):,} messages are"
    flash(f"{what} being processed again.")
    return redirect(url_for("messages.index"), 303)


@bp.get("/providers")
@sessions.requires("viewer")
async def show_providers() -> str:
    """Show how the senders say they are; all are asked side by side."""
    found = await providers.ask_all(current_app.config["PROVIDER_STATUS_URLS"])
    return render_template("messages/providers.html", providers=found)


def health_panel() -> dict[str, Any]:
    """Return what the health overview shows of the domain."""
    oldest = inbox.oldest_waiting()
    counts = inbox.counts()
    rows = [(STATUS_WORDS[status], f"{number:,}") for status, number in counts.items()]
    waited = in_words((now() - oldest).total_seconds()) if oldest else "none"
    return {"title": "Messages", "rows": [*rows, ("Longest wait", waited)]}


def in_words(seconds: float) -> str:
    """Return a duration as people say it, in its two largest units."""
    left, parts = max(0, round(seconds)), []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
