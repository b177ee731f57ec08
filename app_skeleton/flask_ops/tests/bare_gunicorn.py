"""gunicorn as it comes, without flask_ops' configuration, with a worker class of choice."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

_RECEIVED_AT_ONCE = 8192
_REFUSAL = re.compile(rb"HTTP/1.1 (400 Bad Request|417 Expectation Failed)\r\n.*", re.DOTALL)
OURS, STOCK = "flask_ops.gunicorn_worker.OpsWorker", "gevent"


class Gunicorn:
    """One gunicorn with one worker on a unix socket.

    :param worker_class: gunicorn's setting.
    :param app: a WSGI app in this folder.
    :param options: more of gunicorn's.
    """

    def __init__(self, worker_class: str, app: str, *options: str) -> None:
        """Start it."""
        self.folder = Path(tempfile.mkdtemp(prefix="flask_ops-"))
        self.path = str(self.folder / "web.sock")
        words = ["--worker-class", worker_class, "--bind", f"unix:{self.path}", "--workers", "1"]
        words += ["--pythonpath", str(Path(__file__).parent), "--no-control-socket", *options, app]
        self.output = self.folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *words],
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=output,
            )

    def __enter__(self) -> Gunicorn:
        """Wait until a worker answers."""
        deadline = time.monotonic() + 60
        while True:
            try:
                if self.talk(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"):
                    return self
            except OSError:
                pass
            if self.process.poll() is not None or time.monotonic() > deadline:
                text = self.output.read_text()
                self.__exit__()
                raise AssertionError(f"gunicorn did not start:\n{text}")
            time.sleep(0.05)

    def __exit__(self, *error: object) -> None:
        """Stop it without grace."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
        self.process.wait(60)
        shutil.rmtree(self.folder)

    @property
    def worker(self) -> int:
        """The process id of its worker, 0 while it has none."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def connect(self, timeout: float = 20) -> socket.socket:
        """Return a new connection.

        :param timeout: seconds to wait for anything on it.
        """
        made = socket.socket(socket.AF_UNIX)
        made.settimeout(timeout)
        made.connect(self.path)
        return made

    def talk(self, *pieces: bytes) -> bytes:
        """Send some bytes, then end; return all that comes back until the server ends too."""
        with self.connect() as client:
            # Beside the reading: a server that cannot get rid of an answer reads no further request.
            sending = threading.Thread(target=send, args=(client, pieces))
            sending.start()
            try:
                return received(client)
            finally:
                sending.join()


def send(client: socket.socket, pieces: Sequence[bytes]) -> None:
    """Send some bytes, then end; stop where the server has refused what came first."""
    try:
        for piece in pieces:
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
    except (BrokenPipeError, ConnectionResetError):
        pass


def received(client: socket.socket) -> bytes:
    """Return all that still comes on a connection."""
    data = b""
    try:
        while more := client.recv(1 << 16):
            data += more
    except ConnectionResetError:
        pass
    return data


def answers(servers: Sequence[Gunicorn], pieces: Sequence[bytes]) -> list[bytes]:
    """Return what each server says, in the same form.

    Left out are the date, the socket's path, and, where a head comes in pieces, which of two mistakes in it
    is named: that depends on how much has come when a server looks.
    """
    said = []
    for server in servers:
        text = re.sub(rb"\r\nDate: [^\r]*", b"", server.talk(*pieces))
        text = text.replace(server.path.encode(), b"(socket)")
        if len(pieces) > 1 or len(pieces[0]) > _RECEIVED_AT_ONCE:
            text = _REFUSAL.sub(b"refused", text)
        said.append(text)
    return said
