"""Real certificates in real folders, and a TLS server that shows one of them."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "roles/tls/files"))

from tlsctl import certificate, installing, settings
from tlsctl.errors import Trouble

NAME = "www.example.org"


def make_pair(folder: Path, days: int = 90, names: tuple[str, ...] = (NAME,)) -> Path:
    """Make a certificate and its key as certbot calls them; return their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-days", str(days), "-subj", "/CN=test"]
    words += ["-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in names)]
    words += ["-keyout", str(folder / "privkey.pem"), "-out", str(folder / "fullchain.pem")]
    subprocess.run(words, check=True, capture_output=True, timeout=30)
    return folder


def serials(its) -> tuple[str, bytes]:
    """Return the serial of the certificate nginx reads, and the key."""
    key = (its.folder / "privkey.pem").read_bytes()
    return certificate.read(its.certificate).serial, key


class Listener:
    """A TLS server on the loopback: it shows what is in its folder at each handshake, or the first always."""

    def __init__(self, folder: Path, stubborn: bool = False) -> None:
        self.folder, self.stubborn = folder, stubborn
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.first = self._context()
        threading.Thread(target=self._serve, daemon=True).start()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "fullchain.pem", self.folder / "privkey.pem")
        return context

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self.socket.accept()
            except OSError:
                return
            with plain:
                context = self.first if self.stubborn else self._context()
                with contextlib.suppress(OSError):
                    context.wrap_socket(plain, server_side=True).close()


@pytest.fixture
def listen():
    """Return a function that starts a listener on a folder."""
    started = []

    def start(folder: Path, stubborn: bool = False) -> Listener:
        started.append(Listener(folder, stubborn))
        return started[-1]

    yield start
    for listener in started:
        # Closed alone, it would go on being waited at, and answer for the next test's.
        listener.socket.shutdown(socket.SHUT_RDWR)
        listener.socket.close()


@pytest.fixture
def declare(tmp_path) -> Callable[..., settings.Settings]:
    """Return a function that writes settings as the role does, and reads them."""

    def write(port: int = 1, mode: str = "acme", host: str = "", **more) -> settings.Settings:
        root = tmp_path / host
        told = {
            "mode": mode,
            "server_names": [NAME],
            "host": host,
            "folder": str(root / "ssl"),
            "port": port,
            "renew_before_days": 30,
            "acme": {"directory_url": "https://acme.example.org:14000/dir", "email": ""},
            **more,
        }
        (root / "etc").mkdir(parents=True, exist_ok=True)
        (root / "etc/shop.json").write_text(json.dumps(told))
        return settings.load("shop", root / "etc", root / "state", root / "letsencrypt")

    return write


@pytest.fixture
def commands(monkeypatch):
    """Keep nginx and systemctl from being run; note what would be."""
    run, noted = installing._run, []
    refused = set()

    def note(*words):
        if words[0] == "openssl":
            return run(*words)
        noted.append(" ".join(words))
        if words[0] in refused:
            raise Trouble(f"{words[0]} refuses")
        return None

    monkeypatch.setattr(installing, "_run", note)
    note.noted, note.refused = noted, refused
    return note
