"""Run the tools that resolve and build, and keep what they make."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
from pathlib import Path

from ansible.module_utils.release_archive import EPOCH

# A person's name, or a token, before a URL's host.
USERINFO = re.compile(r"(?<=://)[^/\s@`']*@")


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a tool in a folder, in an environment where nothing but the command chooses a Python."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    settings = {**inherited, "UV_PYTHON_DOWNLOADS": "never", "SOURCE_DATE_EPOCH": str(EPOCH), **environment}
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False)


def tail(output: str) -> str:
    """Return the end of a tool's output, where the cause is, without what URLs say of a user."""
    return without_userinfo("\n".join(output.strip().splitlines()[-20:]))


def without_userinfo(text: str) -> str:
    """Return a text whose URLs name no user, password or token."""
    return USERINFO.sub("", text)


def unlocked(said: str, build_lock: str) -> str:
    """Return what to do where a project wants a build system that nobody has vouched for, or none."""
    if not re.search(r"no trusted hash|build dependencies|build-system|does not match|conflicting", said):
        return ""
    return (
        f", for what it is built with is not in {build_lock}, or another version of it. Lock its"
        " build-system.requires with `uv pip compile --generate-hashes`, and name that file in app_build_lock"
    )


def write_text(path: Path, text: str) -> None:
    """Write a file that is never seen half-written."""
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_text(text)
    unfinished.rename(path)


def happened(noted: Path, since: float) -> bool:
    """Tell whether a file was written at a moment, in seconds since the epoch, or later; 0 is no moment."""
    return bool(since) and noted.is_file() and noted.stat().st_mtime >= since


@contextlib.contextmanager
def locked(folder: Path):
    """Hold the cache: two inventories may deploy from one controller at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
