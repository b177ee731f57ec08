"""Keep Prometheus' multiprocess files few and their counters monotonic.

prometheus_client writes a set of files per process id, for ever: every restarted worker adds one, and a
scrape reads them all. Here a worker owns a slot, the lowest number no living worker has, and its successor
continues the same files; so does the first worker after a restart of the whole instance. Gauges are of the
moment and die with their worker. See "Multiprocess Mode" in prometheus_client's documentation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from . import metric_files
from .settings import release, service

#: The file beside the metrics that says whose they are.
LABELS_FILE = "labels.json"
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_state: dict[str, Any] = {"directory": None, "slot": "arbiter", "store": None}

log = structlog.get_logger(__name__)


def labels() -> dict[str, str]:
    """Return the labels of every series of this process group: ``release`` and ``service``."""
    return {"release": release(), "service": service()}


def prepare(directory: str | None) -> None:
    """Make prometheus_client write one set of files a slot, continuing the counters that are there.

    Call once in the arbiter, before the app is loaded: with ``preload_app`` a metric made earlier would keep
    its value in memory.

    :param directory: where the files go; made if missing. None leaves prometheus_client to one process.
    :raises OSError: if it cannot be made or written to.
    """
    if not directory:
        return
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    _remove_unusable(folder)
    _write_labels(folder)
    os.environ[_VARIABLE] = _state["directory"] = str(folder)
    from prometheus_client import values

    from . import slot_values

    _state["store"] = slot_values.Store(str(folder), str(_state["slot"]))
    values.ValueClass = slot_values.value_class(_state["store"])


def lowest_free_slot(taken: Iterable[int]) -> int:
    """Return the least number, from 0, that is not in ``taken``."""
    used = set(taken)
    return next(slot for slot in count() if slot not in used)


def use_slot(slot: int | str) -> None:
    """Write this process' metrics to the files of ``slot`` from now on."""
    _state["slot"] = str(slot)
    if _state["store"]:
        _state["store"].move(str(slot))


def current_slot() -> str:
    """Return the slot this process writes to; ``0`` where there is only one process."""
    return (_state["slot"] or "0") if _state["directory"] else "0"


def forget_gauges(slot: int | str) -> None:
    """Remove what a dead process of ``slot`` said of the moment; its counters stay for its successor.

    Does nothing outside a prepared server.
    """
    if _state["directory"]:
        for file in Path(_state["directory"]).glob("gauge_*.db"):
            if slot_of(file) == str(slot):
                file.unlink(missing_ok=True)


def slot_of(file: Path) -> str:
    """Return the slot a file belongs to: ``gauge_<mode>_<slot>.db``, otherwise ``<type>_<slot>.db``."""
    return file.stem.split("_", 2 if file.name.startswith("gauge_") else 1)[-1]


def active_directory() -> str | None:
    """Return the directory prepared for this server, or None outside one.

    A command line beside a running server (``flask db upgrade``, ``gunicorn --check-config``) shares its
    environment but must not write to its files: there, prometheus_client is put back to one process.
    """
    if _state["directory"] is None and os.environ.pop(_VARIABLE, None):
        from prometheus_client import values

        values.ValueClass = values.MutexValue
    return _state["directory"]


def _remove_unusable(folder: Path) -> None:
    """Remove the gauges of an earlier start, and files cut short: a worker could not open them again."""
    # Only its own files: a directory named by mistake must survive.
    for file in folder.glob("*.db"):
        try:
            if not file.name.startswith("gauge_"):
                metric_files.require_usable(file)
                continue
        except metric_files.FileBroken as error:
            log.warning("metrics file is broken, its counters begin anew", file=file.name, error=str(error))
        file.unlink(missing_ok=True)


def _write_labels(folder: Path) -> None:
    # Renamed into place: a scrape of another instance may read it at any moment.
    draft = folder / f"{LABELS_FILE}.new"
    draft.write_text(json.dumps(labels()), encoding="utf-8")
    draft.replace(folder / LABELS_FILE)
