"""Ask an instance on its own socket, and the app as the world sees it through nginx."""

from __future__ import annotations

import dataclasses
import http.client
import socket
import ssl
from pathlib import Path
from urllib.parse import urlsplit

from releasectl import records
from releasectl.config import Edge

# Short, because a crash is only looked for between two questions; what takes longer is asked again.
PROBE_SECONDS = 2
LONGEST_BODY = 64 * 1024
LONGEST_METRICS = 8 * 1024 * 1024


@dataclasses.dataclass(frozen=True)
class Answer:
    """What came back.

    :param status: the HTTP status, nothing when there was no answer.
    :param body: the JSON object of the body, empty when it is none.
    :param text: the body, or why there was no answer.
    """

    status: int | None
    body: dict
    text: str

    @property
    def release(self) -> str | None:
        """The release that says it answered."""
        return self.body.get("release")

    def ready(self, release_id: str) -> bool:
        """Whether this release may get traffic."""
        return self.status == 200 and self.release == release_id

    def __str__(self) -> str:
        """Show the answer on one line."""
        text = " ".join(self.text.split())[:500]
        return f"{self.status} {text}" if self.status else text


def instance(path: Path, prefix: str = "") -> Answer:
    """Ask an instance on its own socket whether it is ready, with no header that a proxy would add.

    :param path: the instance's unix socket.
    :param prefix: what stands before `/readyz`.
    """
    return _ask(_UnixConnection(path), f"{prefix}/readyz", "localhost")


def metrics(path: Path, prefix: str = "") -> Answer:
    """Ask an instance on its own socket what it tells Prometheus.

    :param path: the instance's unix socket.
    :param prefix: what stands before `/metrics`.
    """
    return _ask(_UnixConnection(path), f"{prefix}/metrics", "localhost", LONGEST_METRICS)


def edge(where: Edge) -> Answer:
    """Ask through nginx on this host, as a client that named the public host would.

    The certificate is not verified: the connection goes to an address of this very host, and what is
    asked is which release answers, not who answers. A certificate that has run out must be able to
    raise its own alarm, not to undo a deploy.
    """
    url = urlsplit(where.url)
    target = url.path or "/"
    return _ask(_EdgeConnection(where), f"{target}?{url.query}" if url.query else target, url.netloc)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=PROBE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PROBE_SECONDS)
        self.sock.connect(str(self._path))


class _EdgeConnection(http.client.HTTPConnection):
    def __init__(self, where: Edge) -> None:
        super().__init__(where.host, where.port, timeout=PROBE_SECONDS)
        self._url = urlsplit(where.url)

    def connect(self) -> None:
        super().connect()
        if self._url.scheme == "https":
            # Not the default one, which first reads all the authorities that nobody is held against.
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock, server_hostname=self._url.hostname)


def _ask(
    connection: http.client.HTTPConnection, target: str, host: str, longest: int = LONGEST_BODY
) -> Answer:
    try:
        connection.request("GET", target, headers={"Host": host, "Connection": "close"})
        response = connection.getresponse()
        text = response.read(longest).decode(errors="replace")
        return Answer(response.status, records.parse(text) or {}, text)
    except (OSError, http.client.HTTPException) as error:
        return Answer(None, {}, f"no answer: {error or type(error).__name__}")
    finally:
        connection.close()
