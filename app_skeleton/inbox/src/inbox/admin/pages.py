"""Where people arrive, how the app is, and the gate in front of Flower."""

from __future__ import annotations

from flask import Blueprint, current_app, redirect, render_template, request, url_for
from flask_ops.settings import release, service
from werkzeug.wrappers import Response

from ..auth import sessions

CHECK_WORDS = {"ok": "Works", "failed": "Failed", "timeout": "No answer in time"}

bp = Blueprint("admin", __name__)


@bp.app_context_processor
def whereabouts() -> dict[str, str | None]:
    """Tell templates which place of the navigation the page belongs to: `section`, an endpoint."""
    return {"section": section()}


def section() -> str | None:
    """Return the place of the navigation that this page lies below, as an endpoint; None if there is none."""
    places = {url_for(entry.endpoint): entry.endpoint for entry in current_app.extensions["navigation"]}
    around = [path for path in places if f"{request.path}/".startswith(f"{path}/")]
    # One place may stand below another: the nearest is meant.
    return places[max(around, key=len)] if around else None


@bp.get("/")
@sessions.requires("viewer")
def home() -> Response:
    """Lead to the first place of the navigation."""
    return redirect(url_for(current_app.extensions["navigation"][0].endpoint))


@bp.get("/admin/health")
@sessions.requires("viewer")
def health() -> str:
    """Show what requests need, and what the parts of the app say of themselves."""
    results = current_app.extensions["flask_ops"].readiness.results()
    return render_template(
        "admin/health.html",
        results=results,
        is_ready=all(result.state == "ok" for result in results),
        check_words=CHECK_WORDS,
        panels=[panel() for panel in current_app.extensions.get("health_panels", [])],
        service=service(),
        release_id=release(),
    )


@bp.get("/admin/authorize")
def authorize() -> tuple[str, int]:
    """Tell nginx whether whoever asks may look at Flower: 204 for an admin, 401 for nobody, 403 for others.

    nginx's auth_request understands these three and no redirect.
    """
    user = sessions.user()
    if user is None:
        return "", 401
    return ("", 204) if user.may("admin") else ("", 403)
