"""The domain: webhooks. An app of your own puts its folder in this one's place; see the README.

`init_app` is all the frame knows of it.
"""

from __future__ import annotations

from flask import Flask


def init_app(app: Flask) -> None:
    """Add the domain to the app: addresses, API, pages, tasks."""
    # Here, because configuration (settings.py) is loaded before any of it.
    from .. import admin, api
    from ..extensions import csrf, limiter
    from . import file_pages, file_resources, hooks, pages, resources, tasks

    app.register_blueprint(hooks.bp)
    # Signed, and limited by nginx: neither cookies nor Redis have a say in whether a webhook is taken.
    csrf.exempt(hooks.bp)
    limiter.exempt(hooks.bp)
    for blueprint in (*resources.BLUEPRINTS, *file_resources.BLUEPRINTS):
        api.register(app, blueprint)
    app.register_blueprint(pages.bp)
    app.register_blueprint(file_pages.bp)
    admin.add(app, *pages.NAVIGATION)
    app.extensions.setdefault("health_panels", []).append(pages.health_panel)
    tasks.schedule(app.extensions["celery"])
