"""Measure requests, by prometheus-flask-exporter's metrics.

The exporter owns the metrics' names and its decorators work as it says, but it is not called for each
request: its three hooks take some 30 us where a small view takes 55, the layer here some 8 (one clock
reading at each end, and the series looked up once). It stands in front of the app, so a request is measured
however it ends.

The number of series is bounded whatever clients send. With R routes, each of them, and "no route", has at
most (M + 1) x S series of ``flask_http_request_duration_seconds``, each of them B + 2 lines; and there are
(M + 1) x S of ``flask_http_request_total``. M = 9 known methods, the rest being ``_OTHER``; S = 68 statuses:
the 62 of ``http.HTTPStatus``, and for the rest ``1xx`` to ``5xx`` or ``other``; B = 15 buckets. Hosts, paths
and queries are in no label. In truth there are far fewer: a route answers its own methods alone.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from http import HTTPMethod, HTTPStatus
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, Metric

from . import multiproc, process_metrics
from .deadline import DeadlineExceeded
from .exporter import Registry, make_exporter
from .scrape import Scraper
from .settings import release

if TYPE_CHECKING:
    from flask import Flask

Environ = dict[str, Any]
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]

METHODS = frozenset(method.value for method in HTTPMethod)
#: What OpenTelemetry's conventions call every other method.
OTHER_METHOD = "_OTHER"
STATUSES = frozenset(str(status.value) for status in HTTPStatus)
#: A list in the environ in which the Flask app leaves its request, or a layer inside that it counts this one.
_SEEN = "flask_ops.seen"
_COUNTED_INSIDE = object()


class WsgiMetrics:
    """Measure the requests of any WSGI app, without regard to routes."""

    def __init__(self) -> None:
        """Make the metrics."""
        # Asked first: it decides how the metrics made below store their values.
        directory = multiproc.active_directory()
        # A registry an app, so that a test or a dispatcher can hold two; and one for what the app may well
        # call by the same name.
        self._registry, self._ours = Registry(), CollectorRegistry()
        self.exporter = make_exporter(self._registry)
        self._duration: Histogram = self._registry.made["flask_http_request_duration_seconds"]
        self._total: Counter = self._registry.made["flask_http_request"]
        self._exceptions: Counter = self._registry.made["flask_http_request_exceptions"]
        self._series: dict[tuple[str, str, str], Callable[[float], None]] = {}
        info = Gauge(
            "app_info",
            "The release that runs",
            ("release", "revision"),
            registry=self._ours,
            multiprocess_mode="max",
        )
        info.labels(release(), os.environ.get("RELEASE_REVISION") or "").set(1)
        self._scraper = Scraper(directory, self._collect)

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """Return the metrics of all processes of this app and their content type.

        :param accept: the scraper's ``Accept`` header.
        """
        return self._scraper.render(accept)

    def measure(self, app: App) -> App:
        """Return an app that answers as ``app`` does and is measured.

        The time is the app's until it has returned its answer; what a streamed body takes after that is not
        in it.

        :param app: the WSGI app.
        """

        def measured(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
            status, seen = "", []  # type: ignore[var-annotated]
            if _SEEN in environ:
                environ[_SEEN].append(_COUNTED_INSIDE)
            environ[_SEEN] = seen

            def start(line: str, *rest: Any) -> Any:
                nonlocal status
                status = line[:4].rstrip()
                return start_response(line, *rest)

            begin = perf_counter()
            try:
                answer = app(environ, start)
            except BaseException as error:
                # What the layer around this one answers to its own exception, and the server to any other.
                status = "503" if isinstance(error, DeadlineExceeded) else "500"
                self._count(environ, seen, status, perf_counter() - begin)
                raise
            if not status:
                return _Late(
                    answer, lambda: self._count(environ, seen, status or "500", perf_counter() - begin)
                )
            self._count(environ, seen, status, perf_counter() - begin)
            return answer

        return measured

    def _count(self, environ: Environ, seen: list[Any], status: str, seconds: float) -> None:
        # Taken out, or the request and its environ would hold each other until the garbage collector comes.
        request = seen.pop() if seen else None
        if request is _COUNTED_INSIDE:
            return
        rule = self._rule(request)
        if rule is None:
            return
        key = (environ["REQUEST_METHOD"], status, rule)
        count = self._series.get(key) or self._make_series(*key)
        count(seconds)

    def _make_series(self, method: str, status: str, rule: str) -> Callable[[float], None]:
        known = (method if method in METHODS else OTHER_METHOD, _known_status(status), rule)
        if known not in self._series:
            duration = self._duration.labels(method=known[0], status=known[1], url_rule=rule)
            total = self._total.labels(method=known[0], status=known[1])
            self._series[known] = _counting(duration, total)
        return self._series[known]

    def _rule(self, request: Any) -> str | None:
        """Return the route's pattern, or None if the request is not to be measured."""
        return ""

    def _collect(self) -> Iterator[Metric]:
        # The last is the process' own, where libraries put theirs.
        registries = (self._registry, self._ours, process_metrics.registry, REGISTRY)
        return chain.from_iterable(registry.collect() for registry in registries)


class Metrics(WsgiMetrics):
    """Measure the requests of a Flask app by their routes.

    :param app: the app to measure; a layer around it calls :meth:`measure`.
    """

    def __init__(self, app: Flask) -> None:
        """Make the metrics, and hear of the app's exceptions."""
        super().__init__()
        from flask import got_request_exception

        self.exporter.app = app
        _show_request(app)
        got_request_exception.connect(self._count_exception, app)
        process_metrics.watch(app)

    def _rule(self, request: Any) -> str | None:
        if request is None:
            return "None"  # answered by a layer around the app
        if self._excluded(request):
            return None
        rule = request.url_rule
        return "None" if rule is None else rule.rule

    def _excluded(self, request: Any) -> bool:
        """Return whether the exporter's decorators or its ``excluded_paths`` leave a request out."""
        attributes = request.__dict__
        if "prom_do_not_track" in attributes or "prom_exclude_all" in attributes:
            return True
        excluded = self.exporter.excluded_paths
        return bool(excluded) and any(pattern.match(request.path) for pattern in excluded)

    def _count_exception(self, app: Flask, **_: Any) -> None:
        from flask import request

        if not self._excluded(request._get_current_object()):  # type: ignore[attr-defined]
            method = request.method if request.method in METHODS else OTHER_METHOD
            self._exceptions.labels(method=method, status="500").inc()


def _counting(duration: Any, total: Any) -> Callable[[float], None]:
    """Return what ``duration.observe(seconds); total.inc()`` does, in half the time: the checks are of what
    cannot be here.
    """
    bounds = tuple(duration._upper_bounds)
    in_bucket = tuple(bucket.inc for bucket in duration._buckets)
    add_seconds, add_request = duration._sum.inc, total._value.inc

    def count(seconds: float) -> None:
        add_seconds(seconds)
        in_bucket[bisect_left(bounds, seconds)](1)
        add_request(1)

    return count


def _show_request(app: Flask) -> None:
    """Make an app leave its request where the layer around it finds it: Flask forgets it when it is answered.

    In a list rather than in the environ itself, which a layer in between may have copied.
    """
    make = app.request_context

    def request_context(environ: Environ) -> Any:
        context = make(environ)
        seen = environ.get(_SEEN)
        if seen is not None and not seen:
            seen.append(context.request)
        return context

    app.request_context = request_context  # type: ignore[method-assign]


class _Late:
    """Count a request whose app says its status only once its body is asked for (PEP 3333 allows it)."""

    def __init__(self, body: Iterable[bytes], count: Callable[[], None]) -> None:
        self._body = body
        self._count = count

    def __iter__(self) -> Iterator[bytes]:
        try:
            body = iter(self._body)
            first = next(body, None)
        finally:
            # Before the client sees a byte of it, and also when it fails.
            self._count()
        if first is not None:
            yield first
            yield from body

    def close(self) -> None:
        getattr(self._body, "close", bool)()


def _known_status(status: str) -> str:
    if status in STATUSES:
        return status
    return f"{status[0]}xx" if len(status) == 3 and status.isdecimal() and status[0] in "12345" else "other"
