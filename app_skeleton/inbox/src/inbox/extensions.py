"""Flask's extensions, not yet bound to an app. The database's stand with its models."""

from __future__ import annotations

from flask import g, request
from flask_jwt_extended import JWTManager
from flask_limiter import Limiter
from flask_wtf import CSRFProtect

csrf = CSRFProtect()
jwt = JWTManager()


def caller() -> str:
    """Return whom a limit counts for: whoever has signed in, otherwise the address nginx saw."""
    user = g.get("caller_id")
    return f"user:{user}" if user else f"address:{request.remote_addr}"


limiter = Limiter(
    key_func=caller,
    headers_enabled=True,
    # While Redis is away limits are counted in each process: better than none, and better than no service.
    in_memory_fallback_enabled=True,
    # Of several requests that wait for Redis when it goes, the first begins with that, and the others would
    # be answered 500.
    swallow_errors=True,
)


@limiter.request_filter
def is_for_people() -> bool:
    """Return whether a request is none to the API: everything else takes no notice of Redis, gone or slow."""
    return not request.path.startswith("/api/")
