"""Sign people in and out of the pages, by Flask's signed session cookie.

A session ends PERMANENT_SESSION_LIFETIME after signing in, however much is asked meanwhile: Flask signs the
cookie anew with every answer, so the cookie's own age ends none that is used. Signing out is remembered for
as long; by then no copy of the cookie is good any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import wraps
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

import structlog
from flask import Flask, abort, current_app, g, redirect, request, session, url_for
from werkzeug.wrappers import Response

from .. import store
from ..models import db
from .models import User

log = structlog.get_logger(__name__)


def init_app(app: Flask) -> None:
    """Let every template know who looks at it."""
    app.context_processor(lambda: {"current_user": g.get("user")})


def sign_in(user: User) -> None:
    """Begin a session; what an earlier one held is gone."""
    session.clear()
    session.permanent = True
    session["user"], session["stamp"], session["id"] = user.id, user.stamp, token_hex(8)
    session["since"] = int(time.time())


def sign_out() -> None:
    """End this session, for whoever has a copy of its cookie too."""
    if user():
        try:
            store.current().add(f"session:{session.get('id')}", _lifetime_seconds())
        except store.StoreUnavailable:
            log.warning("a copied cookie would still be good: the store does not answer")
    session.clear()


def user() -> User | None:
    """Return who is signed in, None for nobody; asks once a request, and only if there is a cookie.

    What is returned is apart from the database's session: what becomes of that leaves it readable.
    """
    if "user" not in g:
        g.user = None
        if "user" in session:
            g.user = _load()
            if g.user:
                g.caller_id = g.user.id
            else:
                session.clear()
    return g.user


def _load() -> User | None:
    """Return whom the session names, None if it is good no more."""
    user_id = session["user"]
    if not isinstance(user_id, int) or _is_too_old():
        return None
    found = db.session.get(User, user_id)
    if found:
        # A page for an error, a failed flush among them, names the user without asking the database.
        db.session.expunge(found)
    # The page may wait for others, or need a connection beside its own: none is held meanwhile.
    db.session.rollback()
    if found is None or found.disabled_at is not None or found.stamp != session.get("stamp") or _has_ended():
        return None
    return found


def _lifetime_seconds() -> float:
    return current_app.permanent_session_lifetime.total_seconds()


def _is_too_old() -> bool:
    return time.time() - session.get("since", 0) >= _lifetime_seconds()


def _has_ended() -> bool:
    try:
        return store.current().has_any(f"session:{session.get('id')}")
    except store.StoreUnavailable:
        # Pages go on without Redis. What ends somebody's rights stands in the database.
        return False


def requires(role: str) -> Callable[..., Any]:
    """Let a view be seen by users of a role alone; others are asked to sign in first.

    :param role: one of :data:`inbox.auth.models.ROLES`.
    """

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return refusal(role) or current_app.ensure_sync(view)(*args, **kwargs)

        return guarded

    return decorate


def refusal(role: str) -> Response | None:
    """Return a redirect to the sign-in page for nobody, None for a user who may.

    :raises Forbidden: for a user who may not.
    """
    somebody = user()
    if somebody is None:
        return redirect(
            url_for("auth.sign_in", next=request.full_path.rstrip("?") if request.method == "GET" else None)
        )
    if not somebody.may(role):
        abort(403, f"This needs the role {role}; yours is {somebody.role}.")
    return None


def safe_next(address: str | None) -> str | None:
    """Return an address to go on to after signing in, if it is one of this site's.

    Browsers read a backslash as a slash, and two of them as another host.
    """
    if not address or not address.startswith("/") or address.startswith(("//", "/\\")):
        return None
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or any(ord(character) < 32 for character in address):
        return None
    return address
