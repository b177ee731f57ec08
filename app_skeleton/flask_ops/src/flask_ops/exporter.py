"""Make prometheus-flask-exporter's metrics, without its hooks. It is used here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_flask_exporter import PrometheusMetrics


def make_exporter(registry: CollectorRegistry) -> PrometheusMetrics:
    """Return an exporter whose metrics of requests are made and that adds no hook to any app.

    :param registry: where its metrics go.
    """
    exporter = PrometheusMetrics.for_app_factory(path=None, group_by="url_rule", registry=registry)
    exporter.export_defaults(group_by="url_rule", app=_NoHooks())
    return exporter


class _NoHooks:
    """Take the place of an app to which the exporter adds hooks."""

    def before_request(self, hook: Callable[..., Any]) -> None:
        """Drop a hook."""

    after_request = teardown_request = before_request


class Registry(CollectorRegistry):
    """Remember metrics by name."""

    def __init__(self) -> None:
        """Start empty."""
        super().__init__()
        self.made: dict[str, Any] = {}

    def register(self, collector: Any) -> None:
        """Take a metric in; the exporter keeps its own in the hooks that are dropped here."""
        super().register(collector)
        describe = getattr(collector, "describe", tuple)
        self.made.update((metric.name, collector) for metric in describe())
