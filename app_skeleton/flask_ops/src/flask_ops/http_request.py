"""Read the head of an ordinary HTTP/1.1 request in a few calls into C, and leave every other to gunicorn.

gunicorn reads a head in Python, rule by rule. Here two regular expressions match what a browser or nginx
sends: one of seven methods, a path, HTTP/1.1, fields that each stand once, a body whose length is given. They
match nothing that gunicorn refuses, changes or warns of, and a head that they do not match whole goes to
gunicorn with all its bytes. So each rule and each refusal is gunicorn's own, and the app sees the same either
way. (A parser in C that hands each field to Python, such as httptools, takes as long: what costs is to make
the strings.)

Sources: RFC 9112, sections 2 to 6; PEP 3333, "environ Variables"; ``gunicorn.http.message`` and
``gunicorn.http.wsgi``, whose results these are.
"""

from __future__ import annotations

import os
import re
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from gunicorn.http.body import Body, LengthReader
from gunicorn.http.message import MAX_REQUEST_LINE, Request, _ip_in_allow_list
from gunicorn.http.unreader import SocketUnreader
from gunicorn.http.wsgi import base_environ

Environ = dict[str, Any]

_END = b"\r\n\r\n"
# The target has no "#": what follows one is cut off, by rules that are gunicorn's.
_LINE = re.compile(
    r"(GET|POST|HEAD|PUT|PATCH|DELETE|OPTIONS) ((/[!\"$->@-~]*)(?:\?([!\"$-~]*))?) HTTP/1\.1\r\n"
)
# A name with "_" is for gunicorn's header_map.
_FIELD = re.compile(r"^([!#$%&'*+\-.^`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)\r\n", re.MULTILINE)
# Clients choose names and hosts; beyond so many, each is worked out anew.
_KEPT_AT_MOST = 1024


class _Keys(dict[str, str]):
    """Field names as they come, and the keys of ``environ`` that they stand under."""

    def __missing__(self, name: str) -> str:
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        if len(self) < _KEPT_AT_MOST:
            self[name] = key
        return key


_key_of = _Keys()


class PlainRequest(Request):
    """A request that was read here: what gunicorn's own has, for the hooks that are given one."""

    # What all of them have is the class'.
    must_close = False
    fragment = ""
    version = (1, 1)
    proxy_protocol_info: dict[str, Any] | None = None
    _expected_100_continue = False

    def __init__(self, connection: Connection, line: re.Match[str], pairs: list[tuple[str, str]]) -> None:
        """Take over what has been read."""
        self._connection = connection
        self._pairs = pairs
        self.method, self.uri, self.path, query = line.groups()
        self.query = query or ""
        self.scheme = "http"
        self.closes = False
        self.body: Any = None
        self._environ: Environ = {}

    def take_environ(self) -> Environ:
        """Return what the app gets, once: it comes to refer to the request, and would keep itself alive."""
        environ, self._environ = self._environ, {}
        return environ

    def should_close(self) -> bool:
        """Return whether no further request is read from this connection."""
        return self.must_close or self.closes

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The fields, their names in capitals."""
        return [(name.upper(), value) for name, value in self._pairs]

    @property
    def trailers(self) -> list[tuple[str, str]]:
        """None: only a body in chunks has any."""
        return []

    @property
    def cfg(self) -> Any:
        """Gunicorn's settings."""
        return self._connection.listener.cfg

    @property
    def unreader(self) -> SocketUnreader:
        """Where more of the body comes from."""
        return self._connection.unreader

    @property
    def peer_addr(self) -> Any:
        """The peer's address, as its socket says."""
        return self._connection.address

    remote_addr = peer_addr


class Listener:
    """What all connections to one listening socket share.

    :param cfg: gunicorn's settings.
    :param name: what ``getsockname`` says of it.
    """

    def __init__(self, cfg: Any, name: Any) -> None:
        """Look up once what no connection changes: each of gunicorn's settings costs a microsecond."""
        self.cfg = cfg
        self.name = name
        self.script_name = os.environ.get("SCRIPT_NAME", "")
        self.environ = base_environ(cfg) | {
            "SCRIPT_NAME": self.script_name,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.multithread": True,
        }
        self.schemes = [
            (f"HTTP_{name.replace('-', '_')}", value) for name, value in cfg.secure_scheme_headers.items()
        ]
        # Below these gunicorn has nothing to say against a size, whatever "no limit" is to it.
        line, fields, head = cfg.limit_request_line, cfg.limit_request_fields, cfg.limit_request_field_size
        self.max_line = line if 0 < line < MAX_REQUEST_LINE else MAX_REQUEST_LINE
        self.max_fields = fields if fields > 0 else 100
        self.max_head = head if head > 0 else 8190
        self._servers: dict[tuple[str | None, str], tuple[str, str]] = {}

    def trusts(self, address: Any) -> bool:
        """Return whether a peer may say by which scheme the client came.

        :param address: the peer's; on a unix socket it is no tuple, and trusted.
        """
        return not isinstance(address, tuple) or _ip_in_allow_list(
            address[0], self.cfg.forwarded_allow_ips, self.cfg.forwarded_allow_networks()
        )

    def server(self, host: str | None, scheme: str) -> tuple[str, str]:
        """Return ``SERVER_NAME`` and ``SERVER_PORT``.

        :param host: the Host field.
        :param scheme: that of the request.
        """
        known = self._servers.get((host, scheme))
        if known is not None:
            return known
        parts = self.name.split(":") if isinstance(self.name, str) else self.name
        if len(parts) == 1:  # a unix socket has no port
            parts = host.split(":") if host else [*parts, ""]
            if len(parts) == 1:
                parts.append("443" if scheme == "https" else "80")
        server = (parts[0], str(parts[1]))
        if len(self._servers) < _KEPT_AT_MOST:
            self._servers[host, scheme] = server
        return server


class Connection:
    """One connection, and what all its requests share.

    :param listener: where it came to.
    :param client: its socket.
    :param address: its peer's address.
    :ivar unreader: gives gunicorn's parser what was received and not used.
    :ivar rest: what was received after the last request; the next one begins there.
    """

    def __init__(self, listener: Listener, client: Any, address: Any) -> None:
        """Work out once what no request changes."""
        self.listener = listener
        self.client = client
        self.address = address
        self.unreader = SocketUnreader(client)
        self.rest = b""
        self._environ = {**listener.environ, "gunicorn.socket": client, "REMOTE_ADDR": address}
        if isinstance(address, bytes):
            self._environ["REMOTE_ADDR"] = address.decode()
        elif not isinstance(address, str):
            self._environ |= {"REMOTE_ADDR": address[0], "REMOTE_PORT": str(address[1])}
        self._schemes = listener.schemes if listener.trusts(address) else ()

    def read(self, data: bytes) -> PlainRequest | None:
        """Return the request at the start of what was received, if it is an ordinary one.

        What follows it stands in :attr:`rest` or in :attr:`unreader` then.

        :param data: what was received.
        :returns: None if gunicorn's parser must read it, and nothing has been used up.
        """
        listener = self.listener
        end = data.find(_END)
        if not 0 <= end <= listener.max_head:
            return None
        head = data[: end + 2].decode("latin-1")
        line = _LINE.match(head)
        if line is None or line.end() - 2 > listener.max_line:
            return None
        pairs = _FIELD.findall(head, line.end())
        found: Environ = {_key_of[name]: value for name, value in pairs}
        # How a body is framed otherwise, and whether its client waits, is gunicorn's to say.
        if (
            # Every line has matched, each "\n" ends one, and no name stands twice.
            not head.count("\n") - 1 == len(pairs) == len(found) <= listener.max_fields
            or "HTTP_TRANSFER_ENCODING" in found
            or "HTTP_EXPECT" in found
            or " \r\n" in head
            or "\t\r\n" in head
        ):
            return None
        request = PlainRequest(self, line, pairs)
        if self._describe(request, found) and self._add_body(request, data, end + len(_END)):
            return request
        return None

    def _describe(self, request: PlainRequest, found: Environ) -> bool:
        """Make the request's ``environ``; return whether it can be made here."""
        said = {found[key] == value for key, value in self._schemes if key in found}
        if len(said) > 1:  # they contradict one another
            return False
        if True in said:
            request.scheme = "https"
        elif said:
            request.scheme = "http"
        if "HTTP_CONNECTION" in found:
            request.closes = found["HTTP_CONNECTION"].lower() == "close"
        path, script_name = request.path, self.listener.script_name
        if script_name:
            if not path.startswith(script_name):
                return False
            path = path[len(script_name) :]
        environ = request._environ = self._environ | found
        environ["REQUEST_METHOD"] = request.method
        environ["RAW_URI"] = request.uri
        environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
        environ["QUERY_STRING"] = request.query
        environ["wsgi.url_scheme"] = request.scheme
        server = self.listener.server(found.get("HTTP_HOST"), request.scheme)
        environ["SERVER_NAME"], environ["SERVER_PORT"] = server
        return True

    def _add_body(self, request: PlainRequest, data: bytes, start: int) -> bool:
        """Give the request its body; return whether its length is a plain number."""
        length = 0
        text = request._environ.get("CONTENT_LENGTH")
        if text is not None:
            if not (text.isascii() and text.isdigit() and len(text) < 20):
                return False
            length = int(text)
        if len(data) - start >= length:
            self.rest = data[start + length :]
            request.body = BytesIO(data[start : start + length])
        else:
            self.rest = b""
            self.unreader.unread(data[start:])
            request.body = Body(LengthReader(self.unreader, length))
        request._environ["wsgi.input"] = request.body
        return True
