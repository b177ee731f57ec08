"""A webhook inbox: stores signed webhooks once, processes them in the background, lets people search them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flask_ops
from flask import Flask
from flask_ops import checks
from flask_ops.json_provider import OrjsonProvider
from werkzeug.middleware.proxy_fix import ProxyFix

from . import admin, api, assets, auth, cli, config, errors, headers, messages, storage, store, tasks
from .extensions import csrf, limiter
from .models import db, migrate


def create_app(overrides: Mapping[str, Any] | None = None) -> Flask:
    """Make the app.

    :param overrides: configuration that wins over the environment, for tests.
    :raises flask_ops.settings.SettingError: in production, if a setting or a secret is missing.
    """
    app = Flask("inbox")
    app.json = OrjsonProvider(app)
    app.config.from_mapping(config.load(app.instance_path, overrides or {}))
    # nginx sets each of these exactly once, from what it saw itself.
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)  # type: ignore[method-assign]
    db.init_app(app)
    migrate.init_app(app, db, directory=str(Path(__file__).parent / "migrations"))
    csrf.init_app(app)
    limiter.init_app(app)
    for frame in (store, storage, tasks, assets, headers, errors, api, auth, admin, cli):
        frame.init_app(app)
    messages.init_app(app)  # the domain: all of it hangs on this line
    flask_ops.init_app(app, checks=[checks.sqlalchemy(db)])
    return app
