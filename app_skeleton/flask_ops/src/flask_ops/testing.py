"""Run an app under a real gunicorn in a test."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

# LISTEN_PID must be gunicorn's own, and exec keeps a process' id (sd_listen_fds(3)).
_HAND_OVER = 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
_LISTEN_FDS_START = 3


def eventually(claim: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait until a claim holds, and return what it said.

    :param claim: asked again and again; it holds when its answer is truthy.
    :param seconds: how long to wait; long enough for a busy machine.
    :raises AssertionError: if it did not come to hold.
    """
    deadline = time.monotonic() + seconds
    while not (value := claim()):
        assert time.monotonic() < deadline, "it did not become true"
        time.sleep(0.05)
    return value


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a unix socket.

    :param path: the socket.
    :param timeout: seconds to wait for an answer.
    """

    def __init__(self, path: Path, timeout: float = 10) -> None:
        """Connect at the first request."""
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class GunicornServer:
    """gunicorn with ``flask_ops.gunicorn_conf``, its socket handed over as systemd does.

    :param app: what ``APP_WSGI`` becomes.
    :param env: more environment variables.
    """

    def __init__(self, app: str, **env: str) -> None:
        """Make the server's folder; entering the context starts it."""
        # Not pytest's tmp_path: a unix socket's path must stay under 108 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="flask_ops-"))
        self.path = self.folder / "web.sock"
        self.drain_file = self.folder / "drain"
        self.output = self.folder / "output"
        self.env = {
            **os.environ,
            "APP_WSGI": app,
            "FLASK_OPS_DRAIN_FILE": str(self.drain_file),
            "GUNICORN_WORKERS": "1",
            "PYTHONUNBUFFERED": "1",
            **env,
        }

    def __enter__(self) -> GunicornServer:
        """Start it and wait until it answers."""
        self.start()
        deadline = time.monotonic() + 60
        while True:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise AssertionError(f"gunicorn did not start:\n{self.text}")
            try:
                self.get("/livez", timeout=1)
            except OSError:
                time.sleep(0.05)
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it without grace and remove its folder; a test about stopping calls :meth:`stop` itself."""
        self.stop(signal.SIGQUIT)
        self.text = self.output.read_text()
        shutil.rmtree(self.folder)

    def start(self, *arguments: str) -> None:
        """Start it without waiting.

        :param arguments: for gunicorn.
        """
        with socket.socket(socket.AF_UNIX) as listener, self.output.open("ab") as output:
            listener.bind(str(self.path))
            listener.listen(128)

            def hand_over() -> None:
                os.dup2(listener.fileno(), _LISTEN_FDS_START)
                os.set_inheritable(_LISTEN_FDS_START, True)

            command = [
                sys.executable,
                "-m",
                "gunicorn",
                "--config",
                "python:flask_ops.gunicorn_conf",
                *arguments,
            ]
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", _HAND_OVER, "sh", *command],
                env=self.env,
                stdout=output,
                stderr=output,
                close_fds=False,  # Python's own are not inheritable; the listener must be
                preexec_fn=hand_over,
            )

    def stop(self, sig: int = signal.SIGTERM, timeout: float = 60) -> int:
        """Send a signal, by default the one systemd sends, and return the exit code.

        :param sig: the signal.
        :param timeout: seconds to wait for the end; gunicorn itself gives a worker that is deaf 30.
        :raises subprocess.TimeoutExpired: if it does not end.
        """
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(timeout)

    def connect(self, timeout: float = 10) -> UnixConnection:
        """Return a connection that is kept alive until closed."""
        return UnixConnection(self.path, timeout)

    def request(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        timeout: float = 10,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send a request on a connection of its own; return the response and its body."""
        connection = self.connect(timeout)
        try:
            connection.request(method, path, body, {"Connection": "close", **(headers or {})})
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def get(
        self, path: str, headers: dict[str, str] | None = None, timeout: float = 10
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """GET a path."""
        return self.request("GET", path, headers, timeout=timeout)

    def worker_pids(self) -> list[int]:
        """Return the process ids of the living workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def lines(self) -> list[str]:
        """Return what it has written to stdout and stderr so far."""
        return self.output.read_text().splitlines()

    def logs(self) -> list[dict[str, Any]]:
        """Return its log lines.

        :raises json.JSONDecodeError: if a line is not JSON.
        """
        return [json.loads(line) for line in self.lines()]
