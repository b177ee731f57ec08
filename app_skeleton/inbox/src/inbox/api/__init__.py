"""The API's frame: its documentation, its errors, its pages."""

from __future__ import annotations

from flask import Flask

from ..extensions import csrf
from . import docs, service, tokens
from .service import Blueprint, Service


def init_app(app: Flask) -> None:
    """Make the API, ``app.extensions["api"]``; blueprints are added by :func:`register`."""
    app.config.from_mapping(service.CONFIG)
    app.extensions["api"] = Service(app)
    app.register_blueprint(docs.bp)
    register(app, tokens.bp)


def register(app: Flask, blueprint: Blueprint) -> None:
    """Add resources to the API: without cookies, and so without CSRF tokens."""
    csrf.exempt(blueprint)
    app.extensions["api"].register_blueprint(blueprint)
