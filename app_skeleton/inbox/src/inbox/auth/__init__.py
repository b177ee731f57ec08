"""Who somebody is, and what they may do: pages by session cookie, the API by token."""

from __future__ import annotations

from flask import Flask

from . import pages, sessions, throttle, tokens


def init_app(app: Flask) -> None:
    """Add signing in, for people and for programs."""
    sessions.init_app(app)
    throttle.init_app(app)
    tokens.init_app(app)
    app.register_blueprint(pages.bp)
