"""The WSGI app gunicorn serves: the one ``APP_WSGI`` names, made operable if it has not done so itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.util import import_app

from .health import Readiness
from .middleware import OpsMiddleware
from .settings import setting


class AppLoadError(Exception):
    """The app could not be loaded; its cause says why."""


def load(name: str) -> Callable[..., Iterable[bytes]]:
    """Import an app and make it operable.

    :param name: ``module:attribute`` or ``module:factory()``, as for gunicorn.
    :raises AppLoadError: if importing it raised a RuntimeError, of which gunicorn would print the words
        alone.
    """
    from flask import Flask

    try:
        app: Any = import_app(name)
        if isinstance(app, Flask):
            if "flask_ops" not in app.extensions:
                from .extension import init_app

                init_app(app)
            return app
    except RuntimeError as error:
        raise AppLoadError(f"APP_WSGI={name} failed to load: {error}") from error
    return OpsMiddleware(app, readiness=Readiness())


app = load(setting("APP_WSGI"))  # type: ignore[arg-type]
