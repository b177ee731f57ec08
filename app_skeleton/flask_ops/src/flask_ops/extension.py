"""Join the parts to an app."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import async_views, declared_checks, former_keys, propagation
from .errors import init_sentry
from .health import Check, Readiness
from .logs import configure_unless_configured
from .metrics import Metrics, WsgiMetrics
from .middleware import OpsMiddleware

if TYPE_CHECKING:
    from flask import Flask


@dataclass(frozen=True, slots=True)
class Ops:
    """What ``app.extensions["flask_ops"]`` holds.

    :param readiness: the checks and their last results.
    :param metrics: the app's metrics; ``metrics.exporter`` has the exporter's decorators.
    """

    readiness: Readiness
    metrics: Metrics


def init_app(app: Flask, *, checks: Iterable[Check] = ()) -> Ops:
    """Give an app health pages, logs, metrics and error reports.

    :param app: the app. Call this last in its factory, so that the pages stand in front of every other layer.
    :param checks: what a request needs; ``/readyz`` is ready while all of them are, and those that
        ``FLASK_OPS_CHECKS`` declares.
    :raises RuntimeError: if the app has been given them already.
    :raises ValueError: if two checks have one name.
    :raises Mistakes: if a declared check is not understood, or the app lacks what it needs.
    """
    if "flask_ops" in app.extensions:
        raise RuntimeError("flask_ops.init_app was called twice for one app.")
    ops = _operate(app, checks)
    app.wsgi_app = OpsMiddleware(app.wsgi_app, readiness=ops.readiness, metrics=ops.metrics)  # type: ignore[method-assign]
    return ops


def wrap(app: Callable[..., Iterable[bytes]], flask_app: Flask | None) -> OpsMiddleware:
    """Stand around a WSGI app that is no Flask app itself.

    :param app: the WSGI app.
    :param flask_app: the Flask app inside it, whose requests are measured by their routes.
    :raises Mistakes: if a declared check is not understood, or the app lacks what it needs.
    """
    if flask_app is not None:
        ops = _operate(flask_app, ())
        return OpsMiddleware(app, readiness=ops.readiness, metrics=ops.metrics)
    _prepare()
    readiness = Readiness(declared_checks.from_environment(None))
    return OpsMiddleware(app, readiness=readiness, metrics=WsgiMetrics())


def _operate(app: Flask, checks: Iterable[Check]) -> Ops:
    _prepare()
    declared = declared_checks.from_environment(app)
    ops = Ops(Readiness([*checks, *declared], context=app.app_context), Metrics(app))
    app.extensions["flask_ops"] = ops
    former_keys.accept(app)
    async_views.install(app)
    return ops


def _prepare() -> None:
    propagation.install()
    configure_unless_configured()
    init_sentry()
