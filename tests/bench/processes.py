"""Ask the kernel what processes cost."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)


def family(pid: int) -> list[int]:
    """Return a process and all that descend from it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(member for child in children for member in family(int(child)))]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time, user and system, that a process with all its threads has used.

    From its clock, which counts nanoseconds; ``/proc/<pid>/stat`` counts hundredths of a second
    (clock_getcpuclockid(3)). Children are processes of their own: ask for each.
    """
    clock = ctypes.c_int()
    error = _libc.clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, os.strerror(error))
    return time.clock_gettime(clock.value)


class Meter:
    """CPU time of groups of processes: what each used between two readings.

    :param groups: name to the process at the head of the family.
    """

    def __init__(self, **groups: int) -> None:
        """Read the clocks for the first time."""
        self._groups = groups
        self._before = self._read()

    def _read(self) -> dict[str, dict[int, float]]:
        return {
            name: {member: cpu_seconds(member) for member in family(pid)}
            for name, pid in self._groups.items()
        }

    def used(self) -> dict[str, float]:
        """Return the CPU seconds of each group since this meter was made.

        :raises RuntimeError: if a process of a group has ended meanwhile: its time would be missing.
        """
        after = self._read()
        for name, before in self._before.items():
            if lost := before.keys() - after[name].keys():
                raise RuntimeError(f"{name}: process {sorted(lost)} ended while it was measured")
        return {
            name: sum(seconds - self._before[name].get(pid, 0.0) for pid, seconds in members.items())
            for name, members in after.items()
        }


def stop(process: subprocess.Popen[bytes], sig: int) -> None:
    """Send a process of ours a signal and wait for its end; kill it if that takes 20 seconds."""
    process.send_signal(sig)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


def memory_mib(pid: int) -> dict[str, float]:
    """Return a process' memory in MiB: ``Rss``, ``Pss``, and ``Uss``, which it shares with nobody."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    return {**found, "Uss": found["Private_Clean"] + found["Private_Dirty"]}
