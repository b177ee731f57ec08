"""Measure requests. prometheus-flask-exporter stands behind this module and nowhere else."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_flask_exporter import PrometheusMetrics

from . import multiproc
from .settings import release

if TYPE_CHECKING:
    from flask import Flask

#: A worker that is making a file shows it empty for an instant.
_SCRAPE_ATTEMPTS = 3


class _Exporter(PrometheusMetrics):
    def info(
        self, name: str, description: str, labelnames: Any = None, labelvalues: Any = None, **labels: Any
    ) -> Gauge:
        """Make an info gauge that stays one series under several workers; the exporter's is one a process."""
        labels = labels or dict(zip(labelnames or (), labelvalues or (), strict=True))
        gauge = Gauge(name, description, tuple(labels), registry=self.registry, multiprocess_mode="max")
        (gauge.labels(**labels) if labels else gauge).set(1)
        return gauge


class _Both:
    """The app's registry and the process' default one, where libraries put metrics of their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        return chain(self._registry.collect(), REGISTRY.collect())


class Metrics:
    """Metrics of one app.

    Labels are bounded: the route's pattern and not the path, ``None`` for paths no route matches, and only
    methods some route names; others are counted without labels.

    :param app: the app to measure.
    """

    def __init__(self, app: Flask) -> None:
        """Hook into the app's requests."""
        # Asked first: it decides how the metrics made below store their values.
        self._directory = multiproc.active_directory()
        # A registry an app, so that a test or a dispatcher can hold two.
        self._registry = CollectorRegistry()
        self._unknown_methods = Counter(
            "flask_ops_unknown_method_requests",
            "Requests whose method no route of the app names",
            registry=self._registry,
        )
        self._methods: frozenset[str] | None = None
        app.before_request_funcs.setdefault(None, []).insert(0, self._bound_method)
        self.exporter = _Exporter.for_app_factory(path=None, group_by="url_rule", registry=self._registry)
        self.exporter.init_app(app)
        self.exporter.info(
            "flask_ops_info",
            "The release that runs",
            release=release(),
            revision=os.environ.get("RELEASE_REVISION") or "",
        )

    def _bound_method(self) -> None:
        from flask import current_app, request

        if self._methods is None:
            # Routes are complete by the first request: Flask refuses to add any after it.
            rules = current_app.url_map.iter_rules()
            self._methods = frozenset(method for rule in rules for method in rule.methods or ())
        if request.method not in self._methods:
            request.prom_do_not_track = True  # type: ignore[attr-defined] # the exporter's own mark
            self._unknown_methods.inc()

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """Return the metrics of all workers and their content type.

        :param accept: the scraper's ``Accept`` header.
        """
        encode, content_type = choose_encoder(accept or "")
        for attempt in range(_SCRAPE_ATTEMPTS):
            try:
                return encode(self._source()), content_type
            except (struct.error, RuntimeError):
                if attempt == _SCRAPE_ATTEMPTS - 1:
                    raise
        raise AssertionError("unreachable")

    def _source(self) -> Any:
        if self._directory is None:
            return _Both(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=self._directory)
        return registry
