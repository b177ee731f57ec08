"""Send the request id along with every HTTP call an app makes, as ``X-Request-ID``.

``http.client`` stands behind urllib, urllib3, requests and botocore; httpx goes its own way. Other clients
(aiohttp, pycurl) are not covered. A header the app sets itself is left alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

from .importing import when_imported
from .request_id import current_request_id

HEADER = "X-Request-ID"
_LINE_START = b"x-request-id:"


def install() -> None:
    """Patch ``http.client`` now, and httpx when the app imports it. Calling it again changes nothing."""
    _replace(HTTPConnection, "endheaders", _ending_headers)
    when_imported("httpx", _patch_httpx)


def _replace(owner: type, name: str, wrap: Callable[[Any], Any]) -> None:
    original = getattr(owner, name)
    if hasattr(original, "flask_ops_original"):
        return
    replacement = functools.wraps(original)(wrap(original))
    replacement.flask_ops_original = original
    setattr(owner, name, replacement)


def _ending_headers(original: Any) -> Any:
    def endheaders(self: Any, *args: Any, **kwargs: Any) -> Any:
        request_id = current_request_id()
        # The lines already put: http.client keeps them nowhere else.
        if request_id and not any(line[:13].lower() == _LINE_START for line in self._buffer):
            self.putheader(HEADER, request_id)
        return original(self, *args, **kwargs)

    return endheaders


def _patch_httpx() -> None:
    import httpx

    # Both pass every call, redirects and streams included; the asynchronous one returns a coroutine.
    _replace(httpx.Client, "send", _sending)
    _replace(httpx.AsyncClient, "send", _sending)


def _sending(original: Any) -> Any:
    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        request_id = current_request_id()
        if request_id:
            request.headers.setdefault(HEADER, request_id)
        return original(self, request, *args, **kwargs)

    return send
