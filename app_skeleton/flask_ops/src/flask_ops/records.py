"""Read what a log record says, from logging or from structlog, hostile or plain."""

from __future__ import annotations

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

from .json_lines import RESERVED, shown
from .request_id import current_request_id
from .settings import release, service

#: What a record has of its own; everything else in it came with ``extra``.
_OWN = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "_logger", "_name"})


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return a record's fields: those every line has, and after them what the app gave.

    What the app calls by a name of ours becomes ``extra_<name>``.
    """
    found = _of_structlog(record) if _is_structlogs(record) else _of_logging(record)
    trace = _traceback(found.pop("exc_info", None)) or record.exc_text
    return {
        "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "event": found.pop("event", None),
        "logger": record.name,
        "request_id": current_request_id(),
        "release": release(),
        "service": service(),
        **found,
        **({"exception": trace} if trace else {}),
    }


def keep_apart(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Rename what an app's structlog event calls by a name of ours, as a structlog processor."""
    for name in RESERVED.intersection(event) - {"event"}:
        event[f"extra_{name}"] = event.pop(name)
    return event


def format_arguments(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Put positional arguments into the event, as a structlog processor; wrong ones fail nobody."""
    arguments = event.pop("positional_args", None)
    if arguments:
        record = logging.LogRecord("", 0, "", 0, event["event"], arguments, None)
        event.update(message(record))
    return event


def message(record: logging.LogRecord) -> dict[str, str]:
    """Return what a record says as ``event``, and as ``format_error`` why that is not what was meant."""
    try:
        return {"event": record.getMessage()}
    except Exception as error:
        arguments = record.args if isinstance(record.args, tuple) else (record.args,)
        event = " ".join([shown(record.msg), *map(shown, arguments)])
        return {"event": event, "format_error": f"{type(error).__name__}: {shown(error)}"}


def _is_structlogs(record: logging.LogRecord) -> bool:
    # Put there by structlog.stdlib.ProcessorFormatter.wrap_for_formatter.
    return isinstance(record.msg, dict) and hasattr(record, "_logger")


def _of_structlog(record: logging.LogRecord) -> dict[str, Any]:
    found = dict(record.msg)  # type: ignore[call-overload]
    event = found.get("event")
    found["event"] = event if isinstance(event, str) else shown(event)
    return found


def _of_logging(record: logging.LogRecord) -> dict[str, Any]:
    given = {name: value for name, value in vars(record).items() if name not in _OWN}
    bound = structlog.contextvars.get_contextvars()
    given = {f"extra_{name}" if name in RESERVED else name: value for name, value in (bound | given).items()}
    stack = {"stack": record.stack_info} if record.stack_info else {}
    return {**given, **message(record), **stack, "exc_info": record.exc_info}


def _traceback(given: Any) -> str | None:
    """Return a traceback as text. The standard library's never shows local variables, where secrets live."""
    if isinstance(given, BaseException):
        given = (type(given), given, given.__traceback__)
    elif given and not isinstance(given, tuple):
        given = sys.exc_info()
    if not given or given[0] is None:
        return None
    return "".join(traceback.format_exception(*given)).rstrip("\n")
