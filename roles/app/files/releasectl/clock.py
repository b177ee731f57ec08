"""Tell the time the way people and the ledger read it: UTC."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path


def now() -> str:
    """Return the time as `2026-01-31T12:01:03Z`."""
    return stamp(time.time())


def stamp(seconds: float) -> str:
    """Return seconds since the epoch as `2026-01-31T12:01:03Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stamp_ms(seconds: float) -> str:
    """Return seconds since the epoch as `2026-01-31T12:01:03.250Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse(text: str) -> float | None:
    """Return the seconds since the epoch of an ISO 8601 time, or nothing when it is not one."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def attempts(
    seconds: float,
    pause: float = 0.05,
    longest_pause: float = 0.25,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[float]:
    """Yield the seconds gone by, at once and then after growing pauses, until the time is up.

    :param seconds: how long to go on; there is always one attempt at the very end.
    :param pause: the first pause, in seconds.
    :param longest_pause: the longest one, in seconds.
    :param sleep: what pauses for so many seconds, or fewer where there is something to see.
    """
    start = time.monotonic()
    while True:
        gone = time.monotonic() - start
        yield gone
        left = seconds - (time.monotonic() - start)
        if left <= 0:
            return
        sleep(min(pause, left))
        pause = min(pause * 1.3, longest_pause)


def until(seconds: float, condition: Callable[[], object]) -> bool:
    """Wait until a condition holds; return whether it did within so many seconds."""
    return any(condition() for _ in attempts(seconds))


def process_seconds() -> float:
    """Return how long this process is there, Python's own start in it, to a hundredth of a second."""
    # Field 22 of proc_pid_stat(5), in ticks since the boot; the name before it may hold spaces.
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begun = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return round(time.clock_gettime(time.CLOCK_BOOTTIME) - begun, 2)


class Phases:
    """What a command spent its time on: seconds by name, in the order they began.

    :ivar served_after: seconds from the start of the process until visitors had what it switched to.
    """

    def __init__(self) -> None:
        """Begin with nothing measured."""
        self.seconds: dict[str, float] = {}
        self.served_after: float | None = None

    @contextmanager
    def measured(self, name: str) -> Iterator[None]:
        """Add the block's time to a phase, also where it fails."""
        start = time.monotonic()
        self.seconds.setdefault(name, 0.0)
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds[name] + time.monotonic() - start, 3)
