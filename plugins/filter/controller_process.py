"""Name the process that runs a playbook, and tell of such a name whether that process is still there.

A deploy leaves this name in the lock it takes. The next one from the same controller can then prove that its
holder is gone, and need not wait for the lease to run out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")
NAME = re.compile(r"([0-9a-f-]{36}):([1-9]\d*):(\d+)")


class FilterModule:
    """Hand the filters to Ansible."""

    def filters(self) -> dict:
        """Return them by name."""
        return {"controller_process": controller_process, "controller_process_gone": controller_process_gone}


def controller_process(program: str) -> str:
    """Return the name of the process that runs this: the machine's boot, its id, and when it started.

    An id alone is given to another process one day.

    :param program: what it was started as, such as ``ansible-playbook``: of all processes above this one that
        were, the topmost, since Ansible evaluates what it is given in children of its own.
    """
    above = list(_ancestry(os.getpid()))
    named = [pid for pid in above if program in _words(pid)]
    pid = named[-1] if named else above[-1]
    return f"{_boot_id()}:{pid}:{_started(pid)}"


def controller_process_gone(name: str) -> bool:
    """Tell whether a process is known to be gone: it was of this machine's present boot, and is no more.

    Of another machine's process, or of one before a reboot that may have been another machine's, nothing is
    known.

    :param name: what `controller_process` returned, anywhere.
    """
    found = NAME.fullmatch(name)
    if found is None or found[1] != _boot_id():
        return False
    return _started(int(found[2])) != found[3]


def _boot_id() -> str:
    try:
        return BOOT_ID_PATH.read_text().strip()
    except OSError:
        return ""


def _ancestry(pid: int) -> Iterator[int]:
    """Yield a process and those above it, as far as they can be seen."""
    while pid > 0:
        yield pid
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return


def _words(pid: int) -> set[str]:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return set()
    # A script's own name stands behind its interpreter's.
    return {Path(word.decode(errors="replace")).name for word in words[:2]}


def _started(pid: int) -> str:
    """Return when a process began, in clock ticks since the boot; empty when there is none."""
    try:
        # The name before it, in parentheses, may hold spaces and parentheses itself (proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    # The third field of all is the first here. A zombie has ended, and waits to be fetched.
    return "" if fields[0] == "Z" else fields[19]
