"""Speak and answer from the watchdog's thread, while the main thread may never do so again."""

from __future__ import annotations

import _socket
import os
import socket
from datetime import UTC, datetime
from functools import cache
from typing import Any

from . import deadline, json_lines
from .deadline import Call, Guarded
from .settings import release, service


@cache
def counter() -> Any:
    """Return the counter of requests that were ended; made at its first use, which is after the fork."""
    from prometheus_client import Counter

    return Counter("flask_ops_requests_timed_out", "Requests that were ended at their deadline")


def say(event: str, *, level: str = "error", **fields: Any) -> None:
    """Write a line past the logging module, whose locks a blocked main thread may hold.

    :param event: what happened.
    :param level: how bad it is.
    :param fields: more of it.
    """
    line = {
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "level": level,
        "event": event,
        "logger": "flask_ops.watchdog",
        "request_id": None,
        "release": release(),
        "service": service(),
        "pid": os.getpid(),
        **fields,
    }
    _write(json_lines.render(line))


def _write(line: str) -> None:
    os.write(1, line.encode() + b"\n")


def described(guarded: Guarded | None) -> dict[str, Any]:
    """Return the fields of a log line that say which request it is about."""
    environ = getattr(guarded, "environ", {})
    return {
        "request_id": environ.get("HTTP_X_REQUEST_ID"),
        "method": environ.get("REQUEST_METHOD"),
        "path": environ.get("PATH_INFO"),
    }


def answer(guarded: Guarded) -> None:
    """Answer 503 in the place of a request that will not, or cut what has begun.

    :param guarded: the request; anything else is left alone.
    """
    if not isinstance(guarded, Call) or guarded.answered:
        return
    guarded.answered = True
    deadline.count()
    connection = guarded.environ.get("gunicorn.socket")
    if connection is None:
        return
    try:
        # The plain class, through a descriptor of its own: gevent's would wait in a hub, and the request may
        # close this connection at any moment.
        raw = _socket.socket(fileno=os.dup(connection.fileno()))
    except OSError:
        return
    try:
        if not guarded.head_sent:
            raw.send(_message(guarded), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        raw.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    finally:
        raw.close()


def _message(call: Call) -> bytes:
    headers, body = deadline.answer()
    lines = [
        "HTTP/1.1 503 Service Unavailable",
        "Connection: close",
        f"X-Request-ID: {call.environ['HTTP_X_REQUEST_ID']}",
        f"X-Release: {release()}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if call.environ["REQUEST_METHOD"] == "HEAD" else head + body
