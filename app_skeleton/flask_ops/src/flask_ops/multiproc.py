"""Keep Prometheus' multiprocess files few and their counters monotonic.

prometheus_client writes a set of files per process id, for ever: every restarted worker adds one, and a
scrape reads them all. Here a worker owns a slot, the lowest number no living worker has, and its successor
continues the same files. See "Multiprocess Mode" in prometheus_client's documentation.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from itertools import count
from pathlib import Path

_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_state: dict[str, str | None] = {"directory": None, "slot": "arbiter"}


def prepare(directory: str | None) -> None:
    """Empty the directory and make prometheus_client write one set of files a slot.

    Call once in the arbiter, before the app is loaded: with ``preload_app`` a metric made earlier would keep
    a file that is deleted under it.

    :param directory: where the files go; made if missing. None leaves prometheus_client to one process.
    :raises OSError: if it cannot be made or emptied.
    """
    if not directory:
        return
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    # Only its own files: a directory named by mistake must survive.
    for file in folder.glob("*.db"):
        file.unlink()
    os.environ[_VARIABLE] = _state["directory"] = str(folder)
    from prometheus_client import values

    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: _state["slot"])


def lowest_free_slot(taken: Iterable[int]) -> int:
    """Return the least number, from 0, that is not in ``taken``."""
    used = set(taken)
    return next(slot for slot in count() if slot not in used)


def use_slot(slot: int) -> None:
    """Write this process' metrics to the files of ``slot`` from now on."""
    _state["slot"] = str(slot)


def active_directory() -> str | None:
    """Return the directory prepared for this server, or None outside one.

    A command line beside a running server (``flask db upgrade``, ``gunicorn --check-config``) shares its
    environment but must not write to its files: there, prometheus_client is put back to one process.
    """
    if _state["directory"] is None and os.environ.pop(_VARIABLE, None):
        from prometheus_client import values

        values.ValueClass = values.MutexValue
    return _state["directory"]
