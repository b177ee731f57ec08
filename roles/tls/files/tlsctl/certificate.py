"""Look at certificates: in files, and as a listener shows them."""

from __future__ import annotations

import socket
import ssl
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tlsctl.errors import Trouble

SHORT_LIVED_SECONDS = 10 * 86400
HANDSHAKE_SECONDS = 5


@dataclass(frozen=True)
class Certificate:
    """What is asked about a certificate; times in seconds since 1970.

    :param serial: in upper-case hexadecimal digits.
    :param names: the DNS names it vouches for, sorted.
    """

    serial: str
    not_before: float
    not_after: float
    names: tuple[str, ...]

    @property
    def window_seconds(self) -> float:
        """How long before its end an ACME server's certificate is renewed.

        At a third of its lifetime, at half of one under ten days: certbot's own rule from 4.0.0 on
        (https://github.com/certbot/certbot/blob/v4.0.0/certbot/CHANGELOG.md). Before, it was 30 days whatever
        the lifetime, which renews one of six days at every run.
        """
        lifetime = self.not_after - self.not_before
        return lifetime / (2 if lifetime < SHORT_LIVED_SECONDS else 3)


def parse(pem: str) -> Certificate:
    """Read the first certificate of a text.

    :raises Trouble: when there is none.
    """
    words = ["openssl", "x509", "-noout", "-serial", "-dates", "-dateopt", "iso_8601"]
    words += ["-ext", "subjectAltName"]
    asked = subprocess.run(words, input=pem, capture_output=True, text=True, timeout=10, check=False)
    if asked.returncode:
        raise Trouble(f"no certificate: {asked.stderr.strip()}")
    told = dict(line.split("=", 1) for line in asked.stdout.splitlines() if "=" in line)
    found = [
        word.strip(" ,").removeprefix("DNS:") for word in asked.stdout.split() if word.startswith("DNS:")
    ]
    return Certificate(
        serial=told["serial"],
        not_before=_seconds(told["notBefore"]),
        not_after=_seconds(told["notAfter"]),
        names=tuple(sorted(found)),
    )


def read(path: Path) -> Certificate:
    """Read the first certificate of a file.

    :raises Trouble: when there is none.
    """
    try:
        return parse(path.read_text())
    except OSError as error:
        raise Trouble(f"{path}: {error.strerror}") from error
    except Trouble as trouble:
        raise Trouble(f"{path}: {trouble}") from trouble


def served(port: int, name: str) -> Certificate:
    """Return the certificate that this host's listener shows to who asks for a name.

    :raises Trouble: when it shows none.
    """
    # It is looked at, not trusted: which one it is, is what is asked.
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=HANDSHAKE_SECONDS) as plain,
            unverified().wrap_socket(plain, server_hostname=name) as secure,
        ):
            shown = secure.getpeercert(binary_form=True)
    except OSError as error:
        raise Trouble(f"port {port} shows no certificate for {name}: {error}") from error
    return parse(ssl.DER_cert_to_PEM_cert(shown or b""))


def unverified() -> ssl.SSLContext:
    """Return what a client needs for TLS with whoever answers."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def shown(seconds: float) -> str:
    """Return a time as people read it."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
