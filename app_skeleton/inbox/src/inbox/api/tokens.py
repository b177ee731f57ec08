"""Signing in for programs."""

from __future__ import annotations

from typing import Any

import marshmallow as ma
from flask import Response, abort

from ..auth import throttle, tokens
from .service import Blueprint

bp = Blueprint("tokens", __name__, url_prefix="/tokens", description="Signing in")


class Credentials(ma.Schema):
    """Who somebody is."""

    email = ma.fields.String(required=True, validate=ma.validate.Length(1, 254))
    password = ma.fields.String(required=True, load_only=True, validate=ma.validate.Length(1, 256))


class Tokens(ma.Schema):
    """A token for requests, and one to get the next pair with."""

    access_token = ma.fields.String(required=True)
    refresh_token = ma.fields.String(required=True)
    token_type = ma.fields.String(required=True)
    expires_in = ma.fields.Integer(
        required=True, metadata={"description": "Seconds the access token is good for"}
    )


@bp.after_request
def keep_out_of_caches(answer: Response) -> Response:
    """Have nobody keep a token (RFC 6749, section 5.1)."""
    answer.headers["Cache-Control"] = "no-store"
    return answer


@bp.post("")
@bp.arguments(Credentials)
@bp.response(201, Tokens)
def sign_in(given: dict[str, str]) -> dict[str, Any]:
    """Get a pair of tokens for an address and a password"""
    user = throttle.authenticate(given["email"], given["password"])
    return tokens.issue(user) if user else abort(401, "The address or the password is wrong.")


@bp.post("/refresh")
@tokens.requires("viewer", refresh=True)
@bp.response(201, Tokens)
def refresh() -> dict[str, Any]:
    """Get the next pair of tokens for a refresh token, which is good once"""
    return tokens.renew()


@bp.post("/revoke")
@tokens.requires("viewer", refresh=True)
@bp.response(204)
def revoke() -> None:
    """End every token that came from the same sign-in"""
    tokens.revoke()
