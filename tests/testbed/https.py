"""A client that reaches a site by its loopback port, under its own name, trusting its authority alone."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Return what the body holds; the body is in the message when it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise AssertionError(f"HTTP {self.status}, and no JSON: {self.text[:500]!r}") from error


class Connection(http.client.HTTPSConnection):
    """HTTP/1.1 over TLS to 127.0.0.1, asking for `server_name`."""

    def __init__(
        self, port: int, server_name: str, context: ssl.SSLContext, timeout: float = TIMEOUT_SECONDS
    ):
        """Remember where to; nothing is opened before the first request."""
        super().__init__("127.0.0.1", port, timeout=timeout, context=context)
        self.server_name = server_name
        self.trust = context

    def connect(self) -> None:
        """Open the connection, with the server's name in the handshake."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.sock = self.trust.wrap_socket(plain, server_hostname=self.server_name)
        except BaseException:
            plain.close()
            raise


@dataclass(frozen=True)
class Client:
    """A client of one site.

    :param http_port: its plain port on the loopback.
    :param https_port: its TLS port there.
    :param public_port: the TLS port that the host itself knows, which stands in the Host header.
    :param ops_prefix: what stands before the paths of the health pages.
    :param timeout_seconds: how long it waits for an answer to go on.
    """

    name: str
    http_port: int
    https_port: int
    public_port: int
    ca_path: Path
    ops_prefix: str = ""
    timeout_seconds: float = TIMEOUT_SECONDS

    def context(self) -> ssl.SSLContext:
        """Return a context that trusts the site's authority and nobody else."""
        return ssl.create_default_context(cafile=str(self.ca_path))

    @property
    def host_header(self) -> str:
        """What a browser would send as Host."""
        return f"{self.name}:{self.public_port}"

    def connection(self, context: ssl.SSLContext | None = None) -> Connection:
        """Return a connection, not yet open."""
        return Connection(self.https_port, self.name, context or self.context(), self.timeout_seconds)

    def request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        plain: bool = False,
    ) -> Answer:
        """Ask once, on a connection of its own. `target` goes out as it is given."""
        if plain:
            connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=self.timeout_seconds)
        else:
            connection = self.connection()
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            sent = {"Host": self.host_header, **(headers or {})}
            if body is not None:
                sent["Content-Length"] = str(len(body))
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, target: str, **options: Any) -> Answer:
        """Ask for a page."""
        return self.request("GET", target, **options)

    def post_json(self, target: str, value: object, **options: Any) -> Answer:
        """Send a JSON value."""
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        return self.request("POST", target, headers=headers, body=json.dumps(value).encode(), **options)

    def release(self) -> str:
        """Return the release that answers now."""
        answer = self.get(f"{self.ops_prefix}/version")
        assert answer.status == 200, f"/version: HTTP {answer.status} {answer.text[:500]}"
        return answer.json()["release"]
