"""What a controller must know of this host to build for it."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path

from releasectl.errors import Refused


def python_minor(python: Path) -> str:
    """Return an interpreter's version as `3.13`.

    :raises Refused: when it does not run.
    """
    asked = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [str(python), "-I", "-S", "-c", asked], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise Refused(f"{python} does not run: {error}") from error
    return done.stdout.strip()


def gather(python: Path, root: Path) -> dict:
    """Return the facts as `status` shows them.

    :param python: the interpreter releases run on.
    :param root: the app's folder; where it is missing, its nearest parent tells about the disk.
    """
    place = next(folder for folder in (root, *root.parents) if folder.exists())
    free_bytes, free_inodes = room(place)
    return {
        "python": _minor_or_none(python),
        "machine": platform.machine(),
        "glibc": _glibc(),
        "now": round(time.time(), 3),
        "free_bytes": free_bytes,
        "free_inodes": free_inodes,
    }


def room(folder: Path) -> tuple[int, int | None]:
    """Return the bytes and inodes that an ordinary account could still use where a folder is.

    Some file systems make inodes as they go and count none: nothing is returned for them then.
    """
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else None


def _minor_or_none(python: Path) -> str | None:
    try:
        return python_minor(python)
    except Refused:
        return None


def _glibc() -> str | None:
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return None
    return name.removeprefix("glibc ") or None
