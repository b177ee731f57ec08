"""Know which request is being answered: one id from nginx to every line and call it causes."""

from __future__ import annotations

import os
import re
from contextvars import ContextVar

from structlog import contextvars

from . import stdio

_allowed = re.compile(r"[A-Za-z0-9_.-]{1,128}").fullmatch
_request_id: ContextVar[str | None] = ContextVar("flask_ops_request_id", default=None)
# Every name ever bound in this process. Walking the context costs 2 µs a request; an app that binds nothing
# need not pay it. A structlog that keeps them elsewhere is walked each time.
_ever_bound = getattr(contextvars, "_CONTEXT_VARS", (True,))

#: Return the id of the request being answered, or None outside one.
current_request_id = _request_id.get


def begin_request(given: str | None) -> str:
    """Take the id nginx gave this request, or make one, and put it in every log line from here on.

    :param given: the ``X-Request-ID`` header. One that is not 1 to 128 of ``A-Za-z0-9_.-`` is dropped: it
        would end up in logs, SQL comments and response headers.
    """
    request_id = given if given and _allowed(given) else os.urandom(16).hex()
    # Requests on one kept-alive connection share a greenlet and with it their context.
    if _ever_bound:
        contextvars.clear_contextvars()
    _request_id.set(request_id)
    return request_id


def end_request() -> None:
    """Forget the request, so that a line about the connection does not carry the id of its last request."""
    if stdio.unfinished:
        stdio.finish_lines()
    if _ever_bound:
        contextvars.clear_contextvars()
    _request_id.set(None)
