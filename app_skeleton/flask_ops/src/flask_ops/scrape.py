"""Gather the metrics of every process of this app on this host into one page.

Web workers, Celery and a release that still drains each write to a directory of their own (see
``multiproc``); ``FLASK_OPS_METRICS_DIRS`` names them all, so one listener shows them all. Every series is
labelled with the release and the service it came from.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import structlog

from . import metric_files, multiproc
from .exposition import OPENMETRICS, PLAIN, Page, Series, series
from .settings import setting

if TYPE_CHECKING:
    from prometheus_client import Metric

Labels = tuple[tuple[str, str], ...]
_Item = TypeVar("_Item")

#: Layouts kept from one scrape to the next. Reached only by an app whose own labels are unbounded.
_MAX_LAYOUTS = 100_000
#: OpenMetrics has these, but they are a process' own, and a counter here outlives its process.
_OF_ONE_PROCESS = "_created"

log = structlog.get_logger(__name__)


class Scraper:
    """Read, merge and write metrics.

    :param directory: this process group's own directory; None if there is one process and no directory.
    :param collect: returns this process' own metrics, shown where there is no directory.
    """

    def __init__(self, directory: str | None, collect: Callable[[], Iterable[Metric]]) -> None:
        """Start with nothing laid out."""
        self._directory = directory
        self._collect = collect
        self._layouts: dict[tuple[Labels, bytes, str | None], Series] = {}
        self._told: set[tuple[str, str]] = set()

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """Return the page and its content type.

        :param accept: the scraper's ``Accept`` header.
        """
        openmetrics = "application/openmetrics-text" in (accept or "")
        page = Page()
        if self._directory is None:
            self._add_own(page)
        for labels, directories in self._directories().items():
            self._add_directories(page, labels, directories)
        return page.text(openmetrics=openmetrics), OPENMETRICS if openmetrics else PLAIN

    def _add_own(self, page: Page) -> None:
        labels = multiproc.labels()
        for metric in self._collect():
            for sample in metric.samples:
                if sample.name != metric.name + _OF_ONE_PROCESS:
                    at = series(metric.name, sample.name, {**labels, **sample.labels}, metric.documentation)
                    # Already summed up over its buckets.
                    plain = Series(at.family, at.help, at.group, at.head)
                    page.add(metric.type, plain, sample.value)

    def _directories(self) -> dict[Labels, list[str]]:
        """Return the directories by their labels, this process' own first: its metrics' types win."""
        pattern = setting("FLASK_OPS_METRICS_DIRS", None)
        own = [self._directory] if self._directory else []
        named = sorted(glob(pattern)) if pattern else []  # noqa: PTH207 - a whole path with stars in it
        found = {os.path.realpath(path): path for path in own + named}
        by_labels: dict[Labels, list[str]] = {}
        for path in found.values():
            labels = _read_labels(path)
            if labels is not None:
                by_labels.setdefault(labels, []).append(path)
        return by_labels

    def _add_directories(self, page: Page, labels: Labels, directories: list[str]) -> None:
        files = [file for directory in directories for file in sorted(Path(directory).glob("*.db"))]
        sums: dict[str, dict[bytes, float]] = {"counter": {}, "histogram": {}, "summary": {}}
        gauges = _Gauges()
        for file in _pausing(files, 1):
            kind, _, rest = file.stem.partition("_")
            if kind == "gauge":
                mode, _, slot = rest.partition("_")
                gauges.add(mode, slot, self._read(file))
            elif kind in sums:
                values = sums[kind]
                for key, value, _ in self._read(file):
                    values[key] = values.get(key, 0.0) + value
        for kind, values in sums.items():
            for key, value in _pausing(values.items(), 200):
                self._add(page, kind, labels, key, None, value)
        for (key, slot), (value, _) in gauges.values.items():
            self._add(page, "gauge", labels, key, slot, value)

    def _read(self, file: Path) -> list[metric_files.Entry]:
        try:
            return metric_files.read_file(file)
        except FileNotFoundError:
            return []  # its worker has just died, or its release has just been removed
        except (OSError, metric_files.FileBroken) as error:
            self._tell_once("metrics file left out", str(file), error=str(error))
            return []

    def _add(self, page: Page, kind: str, labels: Labels, key: bytes, slot: str | None, value: float) -> None:
        at = self._layouts.get((labels, key, slot))
        if at is None:
            try:
                family, sample, own, documentation = json.loads(key)
                extra = {} if slot is None else {"pid": slot}
                at = series(family, sample, {**dict(labels), **own, **extra}, documentation)
            except (ValueError, TypeError) as error:
                self._tell_once("metric left out", repr(key[:100]), error=str(error))
                return
            if len(self._layouts) >= _MAX_LAYOUTS:
                self._layouts.clear()
            self._layouts[(labels, key, slot)] = at
        if not page.add(kind, at, value):
            advice = "another release or service has it with another type"
            self._tell_once("metric left out", at.family, advice=advice, labels=dict(labels))

    def _tell_once(self, event: str, what: str, **more: object) -> None:
        if (event, what) not in self._told:
            self._told.add((event, what))
            log.warning(event, what=what, **more)


class _Gauges:
    """Gauges of several processes, brought together as each one's ``multiprocess_mode`` says."""

    def __init__(self) -> None:
        self.values: dict[tuple[bytes, str | None], tuple[float, float]] = {}

    def add(self, mode: str, slot: str, entries: Iterable[metric_files.Entry]) -> None:
        mode = mode.removeprefix("live")
        for key, value, timestamp in entries:
            at = (key, slot if mode == "all" else None)
            known, since = self.values.get(at, (None, 0.0))
            if mode == "mostrecent" and timestamp <= since:
                continue  # older, or made and never set
            if known is not None and mode == "sum":
                value += known
            elif known is not None and mode in ("min", "max"):
                value = (min if mode == "min" else max)(value, known)
            self.values[at] = (value, timestamp)


def _pausing(items: Iterable[_Item], each: int) -> Iterator[_Item]:
    """Let other requests go on (under gevent; elsewhere, other threads) before each so many items."""
    for number, item in enumerate(items):
        if number % each == 0:
            time.sleep(0)
        yield item


def _read_labels(directory: str) -> Labels | None:
    """Return a directory's labels; None if it has just been removed or is not complete yet."""
    try:
        labels = json.loads((Path(directory) / multiproc.LABELS_FILE).read_bytes())
        return tuple(sorted((str(name), str(value)) for name, value in labels.items()))
    except (OSError, ValueError, AttributeError):
        return None
