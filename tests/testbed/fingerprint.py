"""Tell whether anything changed on a host's disk."""

from __future__ import annotations

import json
from typing import Any

# Runs on the host, as root, on Debian's own Python.
SCRIPT = r"""
import hashlib, json, os, stat, sys

ROOTS = ["/etc", "/srv", "/usr/local", "/root", "/home", "/opt", "/var/backups", "/var/lib/dpkg",
         "/var/lib/systemd/linger", "/var/spool/cron"]
# Where Ansible itself keeps its modules for the length of a task, and sudo its lecture marks; and what the
# app stores for its users, whose reports are made every ten minutes.
LEFT_OUT = ("/.ansible", "/.cache", "/shared/files")

def describe(path):
    status = os.lstat(path)
    told = [oct(stat.S_IMODE(status.st_mode)), status.st_uid, status.st_gid]
    if stat.S_ISLNK(status.st_mode):
        return ["link", *told, os.readlink(path)]
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as stream:
            return ["file", *told, status.st_size, hashlib.file_digest(stream, "sha256").hexdigest()]
    return ["folder" if stat.S_ISDIR(status.st_mode) else "special", *told]

found = {}
for root in ROOTS:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not (folder + "/" + name).endswith(LEFT_OUT)]
        for name in [*folders, *files, "."]:
            path = os.path.normpath(os.path.join(folder, name))
            try:
                found[path] = describe(path)
            except FileNotFoundError:
                pass
json.dump(found, sys.stdout)
"""


def take(site: Any) -> dict[str, list]:
    """Return every path below the folders a playbook may touch: kind, mode, owner, size, content's digest.

    The data of PostgreSQL and Redis and the logs are left out: they change by being used.
    """
    return json.loads(site.sudo("python3 -", stdin=SCRIPT.encode(), timeout_seconds=120))


def differences(before: dict[str, list], after: dict[str, list]) -> list[str]:
    """Return one line for each path that appeared, vanished or changed."""
    lines = []
    for path in sorted(before.keys() | after.keys()):
        if path not in before:
            lines.append(f"new: {path} {after[path]}")
        elif path not in after:
            lines.append(f"gone: {path} {before[path]}")
        elif before[path] != after[path]:
            lines.append(f"changed: {path} {before[path]} -> {after[path]}")
    return lines
