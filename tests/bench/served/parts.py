"""The bench's app with some parts of flask_ops around it: those that ``BENCH_PARTS`` names."""

from __future__ import annotations

import os
from functools import partial

import bench_app
from flask import Flask

NAMES = frozenset(os.environ["BENCH_PARTS"].split())


def create_app() -> Flask:
    """Make the app with its parts, in the order flask_ops.init_app gives them."""
    app = bench_app.create_app()
    if "sql_comments" in NAMES:
        from flask_ops import sql_comments

        sql_comments.install()
    if NAMES & {"sentry", "sentry_off"}:
        from flask_ops.errors import init_sentry

        assert init_sentry() == ("sentry" in NAMES)
    if "metrics" in NAMES:
        from flask_ops.metrics import Metrics

        app.wsgi_app = Metrics(app).measure(app.wsgi_app)
    if "deadline" in NAMES:
        from flask_ops.deadline import limited

        app.wsgi_app = partial(limited, app.wsgi_app)
    if "ids" in NAMES:
        from flask_ops.health import Readiness
        from flask_ops.middleware import OpsMiddleware

        app.wsgi_app = OpsMiddleware(app.wsgi_app, readiness=Readiness())
    return app
