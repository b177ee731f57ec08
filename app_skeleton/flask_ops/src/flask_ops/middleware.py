"""Answer the operators' pages in front of the app, and give every request its id.

A WSGI layer rather than routes: the pages must answer whatever the app's hooks, hosts, schemes and error
handlers do.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable
from typing import Any

from . import drain, operators_pages
from .deadline import limited
from .health import Readiness
from .metrics import WsgiMetrics
from .request_id import begin_request
from .settings import release

Environ = dict[str, Any]
Answer = tuple[str, str, bytes]

_OURS = frozenset({"x-request-id", "x-release"})
_EVENTS = "text/event-stream"
_LOCAL = frozenset({"", "127.0.0.1", "::1"})


def is_internal(environ: Environ) -> bool:
    """Return whether the request comes from an operator rather than from the public.

    Either nginx's internal listener says so, or the request came over the unix socket past nginx: nginx
    always sets X-Forwarded-For. The header counts only from a peer on this host, where nginx clears it on the
    public listener.
    """
    # A ProxyFix around this layer has put the client's address in the peer's place and kept the original.
    peer = environ.get("werkzeug.proxy_fix.orig", environ).get("REMOTE_ADDR", "")
    if peer in _LOCAL and environ.get("HTTP_X_OPS_INTERNAL") == "1":
        return True
    return peer == "" and "HTTP_X_FORWARDED_FOR" not in environ


class OpsMiddleware:
    """Wrap a WSGI app.

    :param app: the app.
    :param readiness: what ``/readyz`` and ``/startupz`` ask.
    :param metrics: what measures the app and ``/metrics`` shows; without, it is 404 for everybody.
    """

    def __init__(
        self, app: Callable[..., Iterable[bytes]], *, readiness: Readiness, metrics: WsgiMetrics | None = None
    ):
        """Keep the app and the pages that stand before it."""
        self._app = metrics.measure(app) if metrics else app
        self._readiness = readiness
        self._metrics = metrics
        # nginx writes the release into its access line, and keeps it from the client.
        self._release = ("X-Release", release())
        paths = operators_pages.paths()
        self._pages: dict[str, Callable[[Environ], Answer]] = {
            paths["livez"]: self._livez,
            paths["readyz"]: self._readyz,
            paths["startupz"]: self._startupz,
            paths["version"]: self._version,
            paths["metrics"]: self._show_metrics,
        }

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, or hand it to the app with its id."""
        request_id = begin_request(environ.get("HTTP_X_REQUEST_ID"))
        environ["HTTP_X_REQUEST_ID"] = request_id

        def start_with_id(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            headers = [header for header in headers if header[0].lower() not in _OURS]
            ours = [("X-Request-ID", request_id), self._release]
            if _EVENTS in [value[: len(_EVENTS)] for _, value in headers]:
                ours += _unbuffered(headers)
            return start_response(status, [*headers, *ours], *exc_info)

        page = self._pages.get(environ.get("PATH_INFO", ""))
        if page is not None:
            return _send(page, environ, start_with_id)
        # Over a unix socket the peer has no address, and most apps know no other place to look for their
        # client's. nginx has written it here, over whatever the client claimed.
        if environ.get("REMOTE_ADDR") == "" and "HTTP_X_FORWARDED_FOR" in environ:
            environ["REMOTE_ADDR"] = environ["HTTP_X_FORWARDED_FOR"]
        return limited(self._app, environ, start_with_id)

    def _livez(self, environ: Environ) -> Answer:
        return _json("200 OK", {"status": "alive", "release": release()})

    def _readyz(self, environ: Environ) -> Answer:
        ready = self._readiness.ready()
        # Looked at last: a drain that begins while a check runs must be in this answer.
        status = "draining" if drain.draining() else "ready" if ready else "not_ready"
        body: dict[str, Any] = {"status": status, "release": release()}
        if is_internal(environ):
            body["checks"] = [result.public() for result in self._readiness.results()]
        return _json("200 OK" if status == "ready" else "503 Service Unavailable", body)

    def _startupz(self, environ: Environ) -> Answer:
        started = self._readiness.started or self._readiness.ready()
        status = "200 OK" if started else "503 Service Unavailable"
        return _json(status, {"status": "started" if started else "starting", "release": release()})

    def _version(self, environ: Environ) -> Answer:
        body = {
            "release": release(),
            "revision": os.environ.get("RELEASE_REVISION") or None,
            "built_at": os.environ.get("RELEASE_BUILT_AT") or None,
        }
        if is_internal(environ):
            body["python"] = platform.python_version()
        return _json("200 OK", body)

    def _show_metrics(self, environ: Environ) -> Answer:
        if self._metrics is None or not is_internal(environ):
            return "404 Not Found", "text/plain; charset=utf-8", b"Not Found\n"
        body, content_type = self._metrics.render(environ.get("HTTP_ACCEPT"))
        return "200 OK", content_type, body


def _unbuffered(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return what tells nginx to pass each event on as it comes, unless the app has told it something else.

    Over TLS nginx keeps small pieces, the head among them, until 16 KiB have come together.
    """
    told = any(name.lower() == "x-accel-buffering" for name, _ in headers)
    return [] if told else [("X-Accel-Buffering", "no")]


def _json(status: str, body: dict[str, Any]) -> Answer:
    return status, "application/json", json.dumps(body).encode() + b"\n"


def _send(
    page: Callable[[Environ], Answer], environ: Environ, start_response: Callable[..., Any]
) -> Iterable[bytes]:
    method = environ["REQUEST_METHOD"]
    extra = []
    if method in ("GET", "HEAD"):
        status, content_type, body = page(environ)
    else:
        status, content_type, body = (
            "405 Method Not Allowed",
            "text/plain; charset=utf-8",
            b"Method Not Allowed\n",
        )
        extra = [("Allow", "GET, HEAD")]
    headers = [
        ("Content-Type", content_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    start_response(status, [*headers, *extra])
    return [] if method == "HEAD" else [body]
