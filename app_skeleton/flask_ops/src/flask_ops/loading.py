"""Import an app and make it operable, whatever WSGI layers it stands in."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.util import import_app

from . import boot, operators_pages

#: How many layers around a Flask app are looked through, and how many objects in all.
_LAYERS, _OBJECTS = 6, 200


class AppLoadError(Exception):
    """The app could not be loaded; its cause says why."""


def load(name: str) -> Callable[..., Iterable[bytes]]:
    """Import an app and make it operable.

    :param name: ``module:attribute`` or ``module:factory()``, as for gunicorn.
    :raises AppLoadError: if importing it raised a RuntimeError, of which gunicorn would print the words
        alone.
    :raises Mistakes: if a secret that the app was promised is missing.
    """
    boot.export_secrets()
    try:
        return make_operable(import_app(name))
    except RuntimeError as error:
        raise AppLoadError(f"APP_WSGI={name} failed to load: {error}") from error


def make_operable(app: Any) -> Callable[..., Iterable[bytes]]:
    """Give a WSGI app the operators' pages, logs, metrics and error reports, unless it has them.

    :param app: a Flask app, a Flask app inside other WSGI layers, or any WSGI app.
    """
    from .extension import init_app, wrap

    flask_app = find_flask(app)
    if flask_app is not None:
        operators_pages.report_clashes(flask_app)
        if "flask_ops" in flask_app.extensions:
            return app
    if flask_app is app:
        init_app(app)
        return app
    return wrap(app, flask_app)


def find_flask(app: Any) -> Any:
    """Return the only Flask app that a WSGI app is or holds, looking through its layers; otherwise None.

    Layers such as ProxyFix or DispatcherMiddleware keep what they wrap in an attribute. Two apps behind one
    dispatcher are measured as one WSGI app: neither is *the* app.
    """
    from flask import Flask

    found: list[Any] = []
    seen = {id(app)}
    waiting = deque([(app, 0)])
    while waiting and len(seen) < _OBJECTS:
        candidate, depth = waiting.popleft()
        if isinstance(candidate, Flask):
            found.append(candidate)
        elif depth < _LAYERS:
            for inner in _inside(candidate):
                if id(inner) not in seen:
                    seen.add(id(inner))
                    waiting.append((inner, depth + 1))
    return found[0] if len(found) == 1 else None


def _inside(layer: Any) -> list[Any]:
    held = list(getattr(layer, "__dict__", {}).values())
    held += [cell.cell_contents for cell in getattr(layer, "__closure__", None) or () if _filled(cell)]
    held += [mounted for value in held if isinstance(value, dict) for mounted in value.values()]
    held += [layer.__self__] if hasattr(layer, "__self__") else []
    return [value for value in held if callable(value) and not isinstance(value, type)]


def _filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
