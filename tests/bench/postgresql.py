"""A PostgreSQL server of the bench's own, with its tables filled."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import SERVED_DIR
from .processes import stop


def programs() -> Path | None:
    """Return the folder of the newest PostgreSQL server's programs, None without one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return found[-1].parent if found else None


@contextmanager
def serve(folder: Path, max_connections: int) -> Iterator[tuple[str, int]]:
    """Run PostgreSQL on a unix socket; yield the database's URL for SQLAlchemy and the server's process id.

    :param folder: for its data, on any disk: nothing is synced.
    :param max_connections: of all servers measured together.
    """
    folder.mkdir()
    # PostgreSQL refuses to run as root.
    user = {"user": "nobody"} if os.getuid() == 0 else {}
    if user:
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    bin_dir = programs()
    initdb = [bin_dir / "initdb", "-D", folder / "data", "-A", "trust", "-U", "bench", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=folder, timeout=60, **user)
    # No process of its own that comes and goes while it is measured.
    settings = ("listen_addresses=", f"max_connections={max_connections}", "autovacuum=off")
    options = ["-F", *(word for setting in settings for word in ("-c", setting))]
    with (folder / "log").open("wb") as log:
        command = [bin_dir / "postgres", "-D", folder / "data", "-k", folder, *options]
        server = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, **user)
    try:
        _fill(bin_dir / "psql", folder)
        yield f"postgresql+psycopg://bench@/postgres?host={folder}", server.pid
    finally:
        stop(server, signal.SIGINT)


def _fill(psql: Path, folder: Path) -> None:
    command = [psql, "-h", folder, "-U", "bench", "-v", "ON_ERROR_STOP=1", "-q", "postgres"]
    for _ in range(100):
        if subprocess.run([*command, "-c", "SELECT 1"], capture_output=True, check=False).returncode == 0:
            break
        time.sleep(0.1)
    subprocess.run([*command, "-f", SERVED_DIR / "schema.sql"], check=True, timeout=60)
