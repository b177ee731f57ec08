"""gunicorn as flask_ops sets it up, on this machine, for an nginx in a sandbox."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rendering import ROOT

APP_PYTHON = ROOT / ".cache/app-venv/bin/python"
COMMAND = [APP_PYTHON, "-m", "gunicorn", "--config", "python:flask_ops.gunicorn_conf"]
START_SECONDS = 60


@contextmanager
def gunicorn(folder: Path, wsgi: str, **settings: str | Path) -> Iterator[None]:
    """Run an app on `app.sock` in a folder, for everybody to connect to.

    One worker: all connections that nginx keeps open lead to it.
    """
    assert APP_PYTHON.exists(), "make test-fast makes the app's environment"
    folder.chmod(0o755)
    path, output = folder / "app.sock", folder / "log"
    environment = {
        "PATH": os.environ["PATH"],
        "APP_WSGI": wsgi,
        "GUNICORN_BIND": f"unix:{path}",
        "GUNICORN_WORKERS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **{name: str(value) for name, value in settings.items()},
    }
    with output.open("wb") as log:
        server = subprocess.Popen(COMMAND, env=environment, cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not path.exists():
            assert server.poll() is None, output.read_text()[-4000:]
            assert time.monotonic() < deadline, output.read_text()[-4000:]
            time.sleep(0.1)
        path.chmod(0o777)
        yield
    finally:
        server.terminate()
        server.wait(30)
