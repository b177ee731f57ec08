"""Write every log record, whoever makes it, as one JSON object on one line of stdout."""

from __future__ import annotations

import json
import logging
import logging.config
import os
import re
import sys
import threading
import uuid
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

from .settings import release, setting

#: journald splits a line at 48 KiB (journald.conf(5), LineMax) and the halves are no JSON.
LINE_LIMIT_BYTES = 48 * 1024 - 1
LEVELS = ("debug", "info", "warning", "error", "critical")
_FIRST = ("timestamp", "level", "event", "logger", "request_id", "release", "service")
#: A field of so many characters may be shortened, and not below that.
_LONG = 256
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")

_request_id: ContextVar[str | None] = ContextVar("flask_ops_request_id", default=None)


def current_request_id() -> str | None:
    """Return the id of the request being answered, or None outside one."""
    return _request_id.get()


def begin_request(given: str | None) -> str:
    """Take the id nginx gave this request, or make one, and put it in every log line from here on.

    :param given: the ``X-Request-ID`` header. One that is not 1 to 128 of ``A-Za-z0-9_.-`` is dropped: it
        would end up in logs, SQL comments and response headers.
    """
    request_id = given if given and _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    # Requests on one kept-alive connection share a greenlet and with it their context.
    structlog.contextvars.clear_contextvars()
    _request_id.set(request_id)
    return request_id


def end_request() -> None:
    """Forget the request, so that a line about the connection does not carry the id of its last request."""
    structlog.contextvars.clear_contextvars()
    _request_id.set(None)


def _add_context(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event["request_id"] = _request_id.get()
    event["release"] = release()
    event["service"] = os.environ.get("FLASK_OPS_SERVICE") or "app"
    return event


def _first_things_first(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    return {key: event.pop(key, None) for key in _FIRST} | event


def _dump(value: object) -> str:
    # ASCII only: a byte count is a character count, and no locale can turn a log line into an exception.
    return json.dumps(value, default=repr, ensure_ascii=True)


def render(logger: WrappedLogger | None, method: str, event: MutableMapping[str, Any]) -> str:
    """Return the record as JSON, cut to :data:`LINE_LIMIT_BYTES` and then marked ``"truncated": true``."""
    line = _dump(event)
    if len(line) <= LINE_LIMIT_BYTES:
        return line
    short = {**event, "truncated": True}
    sizes = {key: len(_dump(value)) for key, value in short.items()}
    long = sorted((key for key in sizes if sizes[key] >= _LONG), key=lambda key: sizes[key])
    left = LINE_LIMIT_BYTES - len(_dump(short)) + sum(sizes[key] for key in long)
    if left >= len(long) * _LONG:
        # Shortest first: what one does not need of its share, the longer ones get.
        for others, key in zip(range(len(long), 0, -1), long, strict=True):
            short[key] = _cut(short[key], left // others, keep_end=key == "exception")
            left -= len(_dump(short[key]))
        return _dump(short)
    # Thousands of small fields: none is worth more than the ones every reader relies on.
    return _dump({key: _cut(event.get(key), 4 * _LONG) for key in _FIRST} | {"truncated": True})


def _cut(value: object, budget: int, *, keep_end: bool = False) -> object:
    """Shorten a value until its JSON fits ``budget`` characters.

    :param keep_end: for a traceback, whose end says more than its start.
    """
    if len(_dump(value)) <= budget:
        return value
    text = value if isinstance(value, str) else _dump(value)
    while text and len(_dump(text)) > budget:
        keep = max(0, len(text) * max(budget, 0) // len(_dump(text)) - 1)
        text = text[len(text) - keep :] if keep_end else text[:keep]
    return text


def _shared_processors() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_context,
        structlog.processors.StackInfoRenderer(),
    ]


def dict_config(level: str, *, console: bool = False) -> dict[str, Any]:
    """Return the ``logging.config`` dictionary for a process, and configure structlog to match.

    :param level: one of :data:`LEVELS`.
    :param console: coloured words for a person at a terminal instead of JSON.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *_shared_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    # Tracebacks as text from the standard library: it never shows local variables, where secrets live.
    tail: list[Any] = [structlog.processors.format_exc_info, _first_things_first, render]
    if console:
        tail = [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "json": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [*_shared_processors(), structlog.stdlib.ExtraAdder()],
                "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail],
            }
        },
        "handlers": {
            "stdout": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}
        },
        "root": {"level": level.upper(), "handlers": ["stdout"]},
        "loggers": {
            "gunicorn.error": {"level": level.upper(), "handlers": [], "propagate": True},
            # Six lines at every start about what it found in its own package.
            "alembic.runtime.plugins": {"level": "WARNING"},
            # nginx writes the one access line of a request.
            "gunicorn.access": {"handlers": [], "propagate": False},
        },
    }


def configure_unless_configured() -> None:
    """Configure logging for a process that gunicorn does not run: ``flask run``, ``flask db upgrade``."""
    if not logging.getLogger().handlers:
        level = (setting("GUNICORN_LOG_LEVEL", "info") or "info").lower()
        logging.config.dictConfig(dict_config(level, console=sys.stdout.isatty()))
        capture_uncaught()


def capture_uncaught() -> None:
    """Log what would be printed to stderr in plain text: uncaught exceptions and warnings."""
    logging.captureWarnings(True)
    log = structlog.get_logger("flask_ops.uncaught")

    def at_exit(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            log.critical("uncaught exception", exc_info=(kind, error, trace))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        log.error(
            "uncaught exception in a thread",
            thread=args.thread.name if args.thread else None,
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        )

    sys.excepthook = at_exit
    threading.excepthook = in_thread
