"""Read how releases answered from the site's access log, as nginx writes it: one JSON object a line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from releasectl import clock, records

# So much of the log's end tells how the release before did: some ten thousand requests.
LOOK_BACK_BYTES = 4 * 1024 * 1024
LOOK_BACK_SECONDS = 600


@dataclasses.dataclass
class Answers:
    """How one release answered.

    :param errors: how many had a status of 500 and above, also where nginx gave a kept answer instead.
    :param seconds: what the app took for each, until its answer began.
    """

    errors: int = 0
    seconds: list[float] = dataclasses.field(default_factory=list)

    @property
    def count(self) -> int:
        """How many requests were answered."""
        return len(self.seconds)

    @property
    def error_share(self) -> float:
        """The share of errors, 0 to 1; 0 where nothing was asked."""
        return self.errors / self.count if self.count else 0.0

    @property
    def p95_seconds(self) -> float:
        """What 95 of 100 answers took at most; 0 where nothing was asked."""
        ordered = sorted(self.seconds)
        return ordered[min(self.count - 1, int(0.95 * self.count))] if ordered else 0.0

    def __str__(self) -> str:
        """Tell it on one line."""
        p95 = f"{1000 * self.p95_seconds:.0f} ms"
        return f"{self.count} requests, {100 * self.error_share:.2g} % errors, p95 {p95}"

    def add(self, line: dict) -> None:
        """Count one line of the log."""
        self.errors += max(int(line.get("status", 0)), _status_of_app(line)) >= 500
        self.seconds.append(_seconds(line))


class Log:
    """The access log from one moment on, also over its rotation."""

    def __init__(self, path: Path) -> None:
        """Begin at its end."""
        self._path = path
        self._inode, self._offset = _place(path)
        self._rest = b""

    def before(self, release_id: str, now: float) -> Answers:
        """Return how a release answered lately, until this moment.

        :param now: seconds since the epoch.
        """
        answers = Answers()
        try:
            with self._path.open("rb") as file:
                file.seek(max(0, self._offset - LOOK_BACK_BYTES))
                lines = file.read(self._offset - file.tell()).splitlines()
        except OSError:
            return answers
        for line in _parsed(lines):
            at = clock.parse(str(line.get("timestamp")))
            # What nginx answered by itself, from its cache, took no time and tells nothing about the release.
            its_own = line.get("release") == release_id and line.get("upstream_status")
            if its_own and at is not None and at > now - LOOK_BACK_SECONDS:
                answers.add(line)
        return answers

    def lines(self) -> Iterator[dict]:
        """Yield what was written since the last call, whole lines alone."""
        inode, size = _place(self._path)
        if (inode, self._offset) != (self._inode, min(self._offset, size)):
            # Rotated, or emptied: what the old file got last is not worth finding it for.
            self._inode, self._offset, self._rest = inode, 0, b""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                read = file.read()
        except OSError:
            return
        self._offset += len(read)
        *whole, self._rest = (self._rest + read).split(b"\n")
        yield from _parsed(whole)


def _place(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_ino, status.st_size


def _parsed(lines: list[bytes]) -> Iterator[dict]:
    return (record for record in map(records.parse, lines) if record is not None)


def _status_of_app(line: dict) -> int:
    # Where nginx asked twice there are two: "502, 200". A dash where no answer began.
    last = str(line.get("upstream_status") or "").split(",")[-1].strip()
    return int(last) if last.isdecimal() else 0


def _seconds(line: dict) -> float:
    # Where nginx asked twice there are two times: "0.000, 0.012". The app's own, not the client's: a slow
    # reader must not look like a slow release. "-" where no answer began.
    times = str(line.get("upstream_header_time") or "").split(",")
    try:
        return float(times[-1])
    except ValueError:
        return float(line.get("request_time") or 0)
