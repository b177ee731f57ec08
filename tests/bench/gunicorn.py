"""gunicorn serving the bench's app, as one variant wants it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import APP_PYTHON, FLASK_OPS, SERVED_DIR
from .processes import stop

START_SECONDS = 60
# What the caller's shell holds must not switch anything in a variant.
OURS = ("GUNICORN_", "FLASK_", "RELEASE_", "PROMETHEUS_", "APP_", "BENCH_", "SENTRY_", "CREDENTIALS_")


def environment(source: Path = FLASK_OPS, **more: str) -> dict[str, str]:
    """Return an environment for a server with nothing of flask_ops set in it but what is given.

    :param source: the folder that flask_ops is imported from.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return {**kept, "PYTHONPATH": f"{source}:{SERVED_DIR}", "PYTHONUNBUFFERED": "1", **more}


def snapshot(source: Path, folder: Path) -> Path:
    """Copy flask_ops' source and return where to: an edit while the bench runs changes nothing in it."""
    shutil.copytree(source / "flask_ops", folder / "flask_ops", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@contextmanager
def serve(path: Path, config: str, source: Path, env: Mapping[str, str]) -> Iterator[int]:
    """Run gunicorn on a unix socket; yield the arbiter's process id once a worker answers.

    :param path: of the socket.
    :param config: the module of its settings.
    :param source: the folder that flask_ops is imported from.
    :param env: more environment variables.
    :raises RuntimeError: if none answers within :data:`START_SECONDS`.
    """
    command = [APP_PYTHON, "-m", "gunicorn", "--config", f"python:{config}"]
    with serve_by(
        path, command, environment(source, GUNICORN_BIND=f"unix:{path}", **env), signal.SIGQUIT
    ) as pid:
        yield pid


@contextmanager
def serve_by(
    path: Path, command: Sequence[str | Path], env: Mapping[str, str], stopped_by: int
) -> Iterator[int]:
    """Run a server, gunicorn or another, by a command; yield its process id once it answers ``GET /hello``.

    :param path: of the unix socket that the command binds.
    :param env: the whole environment.
    :param stopped_by: the signal that ends it.
    :raises RuntimeError: if nothing answers within :data:`START_SECONDS`.
    """
    path.unlink(missing_ok=True)
    output = path.with_suffix(".log")
    with output.open("wb") as file:
        server = subprocess.Popen(command, env=dict(env), cwd=path.parent, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(path):
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{path.stem} did not start:\n{output.read_text()[-4000:]}")
            time.sleep(0.05)
        yield server.pid
    finally:
        stop(server, stopped_by)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(START_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(b"GET /hello HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return connection.recv(12).startswith(b"HTTP/1.")
        except OSError:
            return False
