"""Let one command at a time change an app on this host."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from releasectl import clock
from releasectl.errors import Locked, Refused


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who holds the lock, for the one who is refused."""

    pid: int
    by: str
    host: str
    command: str
    since: str

    def __str__(self) -> str:
        """Name the holder in words."""
        return f"{self.by} on {self.host} since {self.since} (`{self.command}`, pid {self.pid})"


@contextmanager
def held(path: Path, by: str, command: str) -> Iterator[int]:
    """Hold the lock inside the block; the kernel lets go of it when the process dies.

    :param path: the lock file, made when missing.
    :param by: the person who does it.
    :param command: what they typed.
    :return: the lock's descriptor, for children that must keep it locked while they write.
    :raises Locked: naming the holder, when somebody else has it.
    :raises Refused: when the app's folder does not exist.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except FileNotFoundError:
        raise Refused(f"{path.parent} does not exist: run the playbook that sets the app up") from None
    try:
        _take(descriptor, path)
        _write(descriptor, Holder(os.getpid(), by, platform.node(), command, clock.now()))
        yield descriptor
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(path: Path) -> Holder | None:
    """Return who holds the lock now, or nothing. Takes no lock itself, so it disturbs nobody."""
    try:
        inode = path.stat().st_ino
        # /proc/locks has one line a lock: `1: FLOCK ADVISORY WRITE 4321 fe:01:131 0 EOF`.
        fields = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return None
    locked = any("FLOCK" in words and words[-3].endswith(f":{inode}") for words in fields)
    return _read(path) if locked else None


def _take(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = _read(path) or "another process"
        raise Locked(f"the lock is held by {who}", next_command="releasectl status") from None


def _write(descriptor: int, who: Holder) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(dataclasses.asdict(who)).encode() + b"\n", 0)


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None
