"""Write an answer with its head and the first of its body in one system call.

gunicorn's own :class:`gunicorn.http.wsgi.Response` writes the head by itself, asks for the date each time,
and tries each name and each value against a regular expression. What is allowed is the same here.
"""

from __future__ import annotations

from email.utils import formatdate
from time import time
from typing import Any

from gunicorn import SERVER
from gunicorn.http.message import TOKEN_RE
from gunicorn.http.wsgi import Response, _make_early_hints_callback
from gunicorn.util import is_hoppish

# A body of this size and more is not copied behind its head.
_LARGE = 32 * 1024
# An app may make names up; beyond so many, each is looked at anew.
_KEPT_AT_MOST = 1024
_LAST_CHUNK = b"0\r\n\r\n"

_date = (0, "")


class _Names(dict[str, bool]):
    """Names of fields, and whether one is allowed and means nothing to a server."""

    def __missing__(self, name: str) -> bool:
        plain = (
            isinstance(name, str)
            and TOKEN_RE.fullmatch(name) is not None
            and not is_hoppish(name)
            and name.lower() != "content-length"
        )
        if len(self) < _KEPT_AT_MOST:
            self[name] = plain
        return plain


_is_plain = _Names()


def http_date() -> str:
    """Return the time as an answer's Date says it (RFC 9110, section 5.6.7)."""
    global _date
    now = int(time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True))
    return _date[1]


class PlainResponse(Response):
    """An answer over HTTP/1.

    :param req: the request.
    :param sock: its connection's socket.
    :param cfg: gunicorn's settings.
    :param worker: gunicorn's; once it stops, no answer promises that the connection is kept.
    """

    version = SERVER
    status: Any = None
    chunked = must_close = headers_sent = upgrade = False
    response_length: int | None = None
    sent = 0
    _omits_body = _omits_body_warned = False

    def __init__(self, req: Any, sock: Any, cfg: Any, worker: Any) -> None:
        """Begin with an empty head."""
        self.req = req
        self.sock = sock
        self.cfg = cfg
        self._worker = worker
        self.headers: list[tuple[str, str]] = []

    def early_hints(self, headers: list[tuple[str, str]]) -> None:
        """Send a 103 before the answer (``wsgi.early_hints``)."""
        _make_early_hints_callback(self.req, self.sock, self)(headers)

    def process_headers(self, headers: list[tuple[str, str]]) -> None:
        """Take the app's fields; gunicorn's own code takes each that is not plain, or refuses it."""
        for field in headers:
            name, value = field
            if not (type(value) is str and value.isascii() and value.isprintable()):
                super().process_headers([field])
            elif _is_plain[name]:
                self.headers.append((name, value.strip(" ")))
            elif name == "Content-Length" and value.isdigit():
                self.response_length = int(value)
                self.headers.append(field)
            else:
                super().process_headers([field])

    def write(self, data: bytes) -> None:
        """Send some of the body, and before it the head if that is still here."""
        if self.headers_sent or self._omits_body or type(data) is not bytes:
            super().write(data)
            return
        if self.response_length is not None:
            data = data[: self.response_length]
        head = self._head()
        self.headers_sent = True
        self.sent = len(data)
        if self.chunked and data:
            self._send(head + b"%X\r\n" % len(data), data, b"\r\n")
        else:
            self._send(head, data)

    def _emit_body(self, data: bytes) -> None:
        if self.chunked:
            self._send(b"%X\r\n" % len(data), data, b"\r\n")
        else:
            self.sock.sendall(data)

    def send_headers(self) -> None:
        """Send the head alone."""
        if not self.headers_sent:
            self._send(self._head())
            self.headers_sent = True

    def close(self) -> None:
        """End the answer."""
        if not self.headers_sent:
            self._send(self._head() + _LAST_CHUNK if self.chunked else self._head())
            self.headers_sent = True
        elif self.chunked:
            self._send(_LAST_CHUNK)

    def _head(self) -> bytes:
        if not self._worker.alive:
            self.force_close()
        connection = "upgrade" if self.upgrade else "close" if self.should_close() else "keep-alive"
        major, minor = self.req.version
        fields = "".join([f"{name}: {value}\r\n" for name, value in self.headers])
        coding = "Transfer-Encoding: chunked\r\n" if self.chunked else ""
        return (
            f"HTTP/{major}.{minor} {self.status}\r\nServer: {self.version}\r\nDate: {http_date()}\r\n"
            f"Connection: {connection}\r\n{coding}{fields}\r\n"
        ).encode("latin-1")

    def _send(self, *parts: bytes) -> None:
        if sum(map(len, parts)) < _LARGE:
            parts = (b"".join(parts),)
            sent = self.sock.send(parts[0])
        else:
            sent = self.sock.sendmsg(parts)
        for part in parts:
            if sent < len(part):
                self.sock.sendall(memoryview(part)[sent:])
            sent = max(0, sent - len(part))
