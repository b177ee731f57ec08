"""Log what nobody caught, instead of having it printed."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

import structlog


def capture_uncaught() -> None:
    """Log what would be printed to stderr: warnings, and exceptions that nobody caught."""
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

    def nowhere(args: Any) -> None:
        log.error(
            args.err_msg or "exception ignored",
            object=args.object,
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        )

    def in_greenlet(hub: Any, context: Any, kind: Any, error: Any, trace: Any) -> None:
        log.error("uncaught exception in a greenlet", context=context, exc_info=(kind, error, trace))

    sys.excepthook = at_exit
    sys.unraisablehook = nowhere
    threading.excepthook = in_thread
    if gevent := sys.modules.get("gevent.hub"):
        gevent.Hub.print_exception = in_greenlet
