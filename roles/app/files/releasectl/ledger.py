"""Keep the book of who changed what, when, and with what result."""

from __future__ import annotations

import json
import os
from pathlib import Path

from releasectl import clock, records

# Lines that say "from then on this release served".
SERVED_COMMANDS = ("activate", "rollback")
# Those whose failure is told of until the next of them goes well.
TOUCHING_COMMANDS = ("stage", "migrate", "activate", "canary", "rollback")
SERVED_RESULTS = ("done", "recovered")


def append(path: Path, entry: dict) -> None:
    """Add one line and wait until it is on disk.

    :raises OSError: when it cannot be written.
    """
    line = json.dumps({"at": clock.now(), **entry}).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        end = os.fstat(descriptor).st_size
        # A loss of power may have left half a line: do not let it swallow this one.
        torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
        os.write(descriptor, b"\n" + line if torn else line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path) -> list[dict]:
    """Return the lines, oldest first; what is no JSON object is left out."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    return [entry for entry in map(records.parse, lines) if entry is not None]


def serves(entry: dict) -> bool:
    """Whether a line says that from then on its release served."""
    return entry.get("command") in SERVED_COMMANDS and entry.get("result") in SERVED_RESULTS


def failed_last(path: Path) -> bool:
    """Whether the newest command that touches a release failed."""
    touching = [entry for entry in read(path) if entry.get("command") in TOUCHING_COMMANDS]
    return bool(touching and touching[-1].get("exit"))


def served(entries: list[dict]) -> list[str]:
    """Return the releases that served one after the other, the last one at the end.

    Going forward adds a release. Going back to one that is in the list takes off whatever served after
    it: those were left because they were worse, and must not become a rollback's target.
    """
    stack: list[str] = []
    for entry in entries:
        if serves(entry):
            serve(stack, str(entry.get("release")))
    return stack


def tried(entries: list[dict]) -> set[str]:
    """Return the releases that somebody tried to get traffic to, with whatever result."""
    return {str(entry.get("release")) for entry in entries if entry.get("command") in SERVED_COMMANDS}


def serve(stack: list[str], release_id: str) -> None:
    """Put on the list that a release serves now."""
    if release_id in stack:
        del stack[stack.index(release_id) + 1 :]
    else:
        stack.append(release_id)
