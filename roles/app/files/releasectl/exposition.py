"""Tell Prometheus what status and ledger tell people: one text file, which the internal listener serves.

The counts are the ledger's lines, so they go on through reboots and reinstallations of releasectl.
"""

from __future__ import annotations

import fcntl
import os
from collections import Counter

from releasectl import clock, ledger, maintenance
from releasectl.host import Host
from releasectl.layout import replace

HELP = {
    "releasectl_commands_total": ("counter", "Commands that changed something or failed, since the first."),
    "releasectl_last_command_timestamp_seconds": ("gauge", "When a command last ended."),
    "releasectl_last_command_exit_code": ("gauge", "How it ended: 0 done, 2 failed, 3 switched back."),
    "releasectl_last_command_duration_seconds": ("gauge", "How long it took."),
    "releasectl_last_command_phase_seconds": ("gauge", "How long each of its phases took."),
    "releasectl_active_release_info": ("gauge", "1 for the release that traffic goes to."),
    "releasectl_maintenance": ("gauge", "1 while the site is closed to visitors."),
    "releasectl_maintenance_start_timestamp_seconds": ("gauge", "Since when it is, while it is."),
}


def write(host: Host) -> None:
    """Write the file anew, whole or not at all.

    The site may be closed while a deploy ends: one looks and writes at a time, so that the last to write has
    seen what both did. Nobody but root can open the lock, and so hold it.

    :raises OSError: when it cannot be written.
    """
    lock = os.open(host.layout.metrics_lock, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        replace(host.layout.metrics, text(host).encode(), 0o644)
    finally:
        os.close(lock)


def text(host: Host) -> str:
    """Return the metrics in Prometheus' text format."""
    entries = ledger.read(host.layout.ledger)
    app = host.settings.app
    samples: dict[str, list[str]] = {name: [] for name in HELP}

    def add(name: str, value: float, **labels: str) -> None:
        told = ",".join(f'{key}="{_escaped(word)}"' for key, word in {"app": app, **labels}.items())
        samples[name].append(f"{name}{{{told}}} {value:.15g}")

    counted = Counter((str(entry.get("command")), str(entry.get("result"))) for entry in entries)
    for (command, result), count in sorted(counted.items()):
        add("releasectl_commands_total", count, command=command, result=result)
    for command, entry in sorted(_last(entries).items()):
        add("releasectl_last_command_timestamp_seconds", clock.parse(str(entry["at"])) or 0, command=command)
        add("releasectl_last_command_exit_code", _number(entry.get("exit")), command=command)
        duration = _number(entry.get("duration_seconds"))
        add("releasectl_last_command_duration_seconds", duration, command=command)
        for phase, seconds in _phases(entry).items():
            add("releasectl_last_command_phase_seconds", seconds, command=command, phase=phase)
    active = host.layout.active()
    if active:
        add("releasectl_active_release_info", 1, release=active)
    closed = maintenance.state(host)
    add("releasectl_maintenance", int(closed["on"]))
    if closed["on"]:
        add("releasectl_maintenance_start_timestamp_seconds", clock.parse(closed["since"]) or 0)
    lines = []
    for name, (kind, help_text) in HELP.items():
        if samples[name]:
            lines += [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}", *samples[name]]
    return "\n".join(lines) + "\n"


def _last(entries: list[dict]) -> dict[str, dict]:
    """Return the newest whole line of each command."""
    return {str(entry["command"]): entry for entry in entries if "command" in entry and "at" in entry}


def _phases(entry: dict) -> dict[str, float]:
    phases = entry.get("phases")
    return {str(name): _number(value) for name, value in phases.items()} if isinstance(phases, dict) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _escaped(word: str) -> str:
    return word.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
