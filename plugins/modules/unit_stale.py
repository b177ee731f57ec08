#!/usr/bin/python
"""Tell whether a running unit began before its configuration last changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: unit_stale
short_description: Tell whether a running unit is older than its configuration
description:
  - Compares when a unit's processes started with when its configuration last changed on disk.
  - A run that breaks off loses the handlers it notified, and the next run finds every file right.
    This module sees what such a run left behind, so that the handler is notified again.
  - Reports C(changed) when the unit runs and is older than any of the paths. It never changes anything.
options:
  unit:
    description: Name of the unit, with its suffix.
    type: str
    required: true
  paths:
    description:
      - Files and folders of its configuration; folders are walked. A path that is not there is skipped.
    type: list
    elements: path
    required: true
  children:
    description:
      - Compare with the oldest child of the main process whose command line begins with this text, instead of
        with the main process. For daemons that reload by replacing their workers.
      - Children that are shutting down do not count.
    type: str
    default: ""
  wait_seconds:
    description: How long to wait for a unit that is stale to be so no more, as after a reload.
    type: float
    default: 0
author: the project's authors
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: See whether nginx runs what is on disk
  unit_stale:
    unit: nginx.service
    children: "nginx: worker process"
    paths: [/etc/nginx]
  notify: Reload nginx
"""

RETURN = r"""
stale:
  description: Whether the unit is older than its configuration. False when it does not run.
  type: bool
  returned: always
newest_path:
  description: The path that changed last.
  type: str
  returned: when any path exists
seconds:
  description: By how many seconds the configuration is newer than the processes; negative when it is older.
  type: float
  returned: when the unit runs and any path exists
"""


def process_start(pid: int) -> float | None:
    """Return when a process started, in seconds since the epoch; None if it is gone.

    /proc counts from boot in clock ticks, so the answer is right to about 10 ms.
    """
    try:
        # The name in parentheses may hold spaces; starttime is field 22, the 20th after it (proc(5)).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        since_boot = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return None
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + since_boot


def matching_children(pid: int, prefix: str) -> list[int]:
    """Return the children of a process whose command line begins with the prefix and are here to stay."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = []
    for child in map(int, children):
        try:
            raw = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        command = raw.replace(b"\0", b" ").decode(errors="replace")
        if command.startswith(prefix) and "shutting down" not in command:
            found.append(child)
    return found


def newest_change(paths: list[str]) -> tuple[float, str] | None:
    """Return when the newest of the paths changed, and which it was.

    The time is the inode's change time, in seconds since the epoch: a copy that keeps its old modification
    time still counts.
    """
    newest = None
    for top in paths:
        for path in [Path(top), *Path(top).rglob("*")]:
            try:
                changed = path.lstat().st_ctime
            except OSError:
                continue
            if newest is None or changed > newest[0]:
                newest = (changed, str(path))
    return newest


def compared(pid: int, prefix: str, paths: list[str]) -> dict[str, object]:
    """Return how old a main process, or its children that begin so, are beside what is on disk."""
    newest = newest_change(paths)
    result: dict[str, object] = {"stale": False}
    if newest:
        result["newest_path"] = newest[1]
    if pid and newest:
        starts = [process_start(each) for each in (matching_children(pid, prefix) if prefix else [pid])]
        known = [start for start in starts if start is not None]
        if known:
            result["seconds"] = round(newest[0] - min(known), 2)
            result["stale"] = newest[0] > min(known)
    return result


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "paths": {"type": "list", "elements": "path", "required": True},
            "children": {"type": "str", "default": ""},
            "wait_seconds": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    command = ["systemctl", "show", "--property=MainPID", "--value", module.params["unit"]]
    deadline = time.monotonic() + module.params["wait_seconds"]
    while True:
        _rc, out, _err = module.run_command(command, check_rc=True)
        result = compared(int(out.strip() or 0), module.params["children"], module.params["paths"])
        if not result["stale"] or time.monotonic() > deadline:
            module.exit_json(changed=result["stale"], **result)
        time.sleep(0.5)


if __name__ == "__main__":
    main()
