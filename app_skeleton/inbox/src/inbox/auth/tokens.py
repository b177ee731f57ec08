"""Tokens for programs: a short-lived one for requests, a longer-lived one to get the next.

A refresh token is good once. Used twice, somebody has a copy: every token that came from the same sign-in is
revoked (RFC 9700, section 4.14.2).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import wraps
from typing import Any

from flask import Flask, abort, current_app, g
from flask_jwt_extended import create_access_token, create_refresh_token, get_jwt, verify_jwt_in_request

from .. import store
from ..errors import problem
from ..extensions import jwt, limiter
from ..models import db
from .models import User, allows

FAMILY = "family"
STAMP = "stamp"


def init_app(app: Flask) -> None:
    """Check tokens in the app's way, and answer for bad ones as for every error."""
    jwt.init_app(app)
    jwt.additional_headers_loader(lambda _identity: {"kid": current_app.config["JWT_KEY_ID"]})
    jwt.decode_key_loader(_key)
    jwt.token_in_blocklist_loader(_is_revoked)
    jwt.unauthorized_loader(_unauthorized)
    jwt.invalid_token_loader(_unauthorized)
    jwt.expired_token_loader(lambda *_: _unauthorized("The token has expired."))
    jwt.revoked_token_loader(lambda *_: _unauthorized("The token has been revoked."))


def issue(user: User, family: str | None = None) -> dict[str, Any]:
    """Return a new pair of tokens.

    :param family: of the refresh token it is for; a new one after signing in.
    """
    claims = {FAMILY: family or secrets.token_hex(8), STAMP: user.stamp}
    identity = str(user.id)
    return {
        "access_token": create_access_token(identity, additional_claims={**claims, "role": user.role}),
        "refresh_token": create_refresh_token(identity, additional_claims=claims),
        "token_type": "Bearer",
        "expires_in": int(current_app.config["JWT_ACCESS_TOKEN_EXPIRES"].total_seconds()),
    }


def renew() -> dict[str, Any]:
    """Return a new pair for the refresh token of this request, which is good no more.

    :raises Unauthorized: if it was used before, or its user may not go on.
    """
    claims = get_jwt()
    user = db.session.get(User, int(claims["sub"]))
    if user is None or user.disabled_at is not None or user.stamp != claims.get(STAMP):
        abort(401, "The user may not go on: sign in again.")
    # The store may take its time: no connection is held meanwhile.
    db.session.expunge(user)
    db.session.rollback()
    # After the database has answered: whoever is told to come back later still has a token to come with.
    if not store.current().add(f"token:{claims['jti']}", _lifetime_seconds()):
        revoke()
        abort(401, "The refresh token was used before: every token of its sign-in is revoked.")
    return issue(user, claims[FAMILY])


def revoke() -> None:
    """End every token that came from the same sign-in as the one of this request."""
    store.current().add(f"family:{get_jwt()[FAMILY]}", _lifetime_seconds())


def _lifetime_seconds() -> float:
    return current_app.config["JWT_REFRESH_TOKEN_EXPIRES"].total_seconds()


def _key(header: dict[str, Any], _claims: dict[str, Any]) -> str:
    """Return the key a token says it was signed with: today's, or one that was replaced and is still good."""
    return current_app.config["JWT_KEYS"].get(header.get("kid"), current_app.config["JWT_SECRET_KEY"])


def _is_revoked(_header: dict[str, Any], claims: dict[str, Any]) -> bool:
    keys = [f"family:{claims.get(FAMILY)}", f"stamp:{claims.get(STAMP)}"]
    # A used refresh token goes on to `renew`, which makes of its second use what it is.
    return store.current().has_any(*keys)


def _unauthorized(reason: str) -> Any:
    return problem(401, reason)


def requires(role: str, *, refresh: bool = False) -> Callable[..., Any]:
    """Let a resource be used with a token of a role alone, and by each user only so often.

    It stands above what reads the request: a stranger is told nothing about that.

    :param role: one of :data:`inbox.auth.models.ROLES`.
    :param refresh: whether it takes a refresh token, and nothing else.
    """

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        limited = limiter.shared_limit(api_limit, scope="api")(view)

        @wraps(view)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            verify_jwt_in_request(refresh=refresh)
            claims = get_jwt()
            g.caller_id = claims["sub"]
            if not refresh and not allows(claims.get("role"), role):
                abort(403, f"This needs the role {role}.")
            return current_app.ensure_sync(limited)(*args, **kwargs)

        # For the documentation; see inbox.api.service.
        described = {**getattr(view, "_apidoc", {}), "token": "refresh" if refresh else "access"}
        guarded.__dict__["_apidoc"] = described
        return guarded

    return decorate


def api_limit() -> str:
    """Return how often a user may ask the API."""
    return current_app.config["API_LIMIT"]
