"""How long things took: shown at the end of a session, never asserted, since machines differ."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_lock = threading.Lock()
RECORDED: list[tuple[str, float]] = []
"""What this process measured: words and seconds, in the order of measuring."""


def record(words: str, seconds: float) -> None:
    """Keep one duration for the table at the end."""
    with _lock:
        RECORDED.append((words, round(seconds, 1)))


@contextmanager
def measured(words: str) -> Iterator[None]:
    """Measure a block that ends well; one that does not tells nothing about speed."""
    started = time.monotonic()
    yield
    record(words, time.monotonic() - started)


def save(path: Path, durations: list[tuple[str, float]]) -> None:
    """Write them for whoever compares runs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps([{"what": words, "seconds": seconds} for words, seconds in durations], indent=1)
    )
