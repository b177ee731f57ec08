"""Join the parts to an app."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import init_sentry
from .health import Check, Readiness
from .logs import configure_unless_configured
from .metrics import Metrics
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
    :param checks: what a request needs; ``/readyz`` is ready while all of them are.
    :raises RuntimeError: if the app has been given them already.
    :raises ValueError: if two checks have one name.
    """
    if "flask_ops" in app.extensions:
        raise RuntimeError("flask_ops.init_app was called twice for one app.")
    configure_unless_configured()
    init_sentry()
    ops = Ops(Readiness(checks, context=app.app_context), Metrics(app))
    app.wsgi_app = OpsMiddleware(app.wsgi_app, readiness=ops.readiness, metrics=ops.metrics)  # type: ignore[method-assign]
    app.extensions["flask_ops"] = ops
    return ops
