"""A webhook inbox: takes messages over HTTP and shows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flask_ops
from flask import Flask
from flask_ops import checks
from werkzeug.middleware.proxy_fix import ProxyFix

from . import api, assets, config, errors, pages
from .models import db, migrate


def create_app(overrides: Mapping[str, Any] | None = None) -> Flask:
    """Make the app.

    :param overrides: configuration that wins over the environment, for tests.
    :raises flask_ops.settings.SettingError: in production, if a setting or a secret is missing.
    """
    app = Flask("inbox")
    app.config.from_mapping(config.load(app.instance_path, overrides or {}))
    # nginx sets each of these exactly once, from what it saw itself.
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1)  # type: ignore[method-assign]
    db.init_app(app)
    migrate.init_app(app, db, directory=str(Path(__file__).parent / "migrations"))
    assets.init_app(app)
    errors.init_app(app)
    app.register_blueprint(pages.bp)
    app.register_blueprint(api.bp)
    flask_ops.init_app(app, checks=[checks.sqlalchemy(db)])
    return app
