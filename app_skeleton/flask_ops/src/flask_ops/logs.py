"""Write every log record, whoever makes it, as one JSON object on one line of stdout."""

from __future__ import annotations

import logging
import logging.config
import sys
from typing import Any

import structlog

from . import json_lines, records, stdio
from .settings import setting
from .uncaught import capture_uncaught

LEVELS = ("debug", "info", "warning", "error", "critical")
#: Loggers that an app's ``dictConfig`` switches off unless told otherwise; without them a crash says nothing.
_NEEDED = ("gunicorn", "flask_ops", "py.warnings")

_ours: logging.Handler | None = None
_level = "info"


class LineFormatter(logging.Formatter):
    """Turn a record into one line.

    :param console: coloured words for a person at a terminal instead of JSON.
    """

    def __init__(self, *, console: bool = False) -> None:
        """Choose how the line looks."""
        super().__init__()
        plain = structlog.dev.plain_traceback
        self._console = structlog.dev.ConsoleRenderer(exception_formatter=plain) if console else None

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, whatever the record holds."""
        fields = records.fields(record)
        if self._console is None:
            return json_lines.render(fields)
        return str(self._console(None, record.levelname, json_lines.harmless(fields)))


class LineHandler(logging.Handler):
    """Write lines to stdout: the real one, where :mod:`flask_ops.stdio` has taken its place."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        """Keep what stdout is now."""
        super().__init__(level)
        self._stdout = sys.stdout

    def createLock(self) -> None:
        """Do without a lock: a line is one write.

        A signal's handler, a forked child, and the thread that watches a blocked hub must be able to log,
        whoever was logging when they came.
        """
        self.lock = None

    def handle(self, record: logging.LogRecord) -> Any:
        """Write a record that no filter of this handler refuses."""
        found = self.filter(record)
        if found:
            self.emit(found if isinstance(found, logging.LogRecord) else record)
        return found

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record; none may fail what the app was doing."""
        try:
            line = self.format(record)
        except Exception as error:
            words = f"{records.message(record)['event']} [the rest cannot be shown: {type(error).__name__}]"
            line = self.format(logging.LogRecord(record.name, record.levelno, "", 0, words, None, None))
        stdio.write_line(line, self._stdout, record.levelno)


def dict_config(level: str, *, console: bool = False) -> dict[str, Any]:
    """Return the ``logging.config`` dictionary for a process, and configure structlog to match.

    :param level: one of :data:`LEVELS`.
    :param console: coloured words for a person at a terminal instead of JSON.
    """
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            records.keep_apart,
            records.format_arguments,
            structlog.processors.StackInfoRenderer(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": LineFormatter, "console": console}},
        "handlers": {"line": {"()": LineHandler, "formatter": "line"}},
        "root": {"level": level.upper(), "handlers": ["line"]},
        "loggers": {
            "gunicorn.error": {"level": level.upper(), "handlers": [], "propagate": True},
            # Six lines at every start about what it found in its own package.
            "alembic.runtime.plugins": {"level": "WARNING"},
            # nginx writes the one access line of a request.
            "gunicorn.access": {"handlers": [], "propagate": False},
        },
    }


def take_over(level: str | None = None) -> None:
    """Make JSON lines of everything this process writes from here on: for a server's process.

    :param level: one of :data:`LEVELS`; what ``GUNICORN_LOG_LEVEL`` says if None, and info if that is wrong.
    """
    global _ours, _level
    wanted = (level or setting("GUNICORN_LOG_LEVEL", "info") or "").lower()
    _level = wanted if wanted in LEVELS else "info"
    logging.config.dictConfig(dict_config(_level))
    _ours = logging.getLogger().handlers[0]
    stdio.capture(_ours, logging.getLevelNamesMapping()[_level.upper()])
    # For a logger that neither has a handler nor passes its records on; logging's own prints the bare words.
    last = LineHandler(logging.WARNING)
    last.setFormatter(LineFormatter())
    logging.lastResort = last  # type: ignore[assignment]
    logging.Handler.handleError = _handler_failed  # type: ignore[method-assign]
    capture_uncaught()


def settle() -> None:
    """Put right what an app's own set-up of logging undid, once the app is loaded.

    Handlers of the app's that write to stdout or stderr give way to ours, or each line would come a second
    time, as plain words. Their level and filters go with them; handlers that write elsewhere stay, and so do
    the levels of loggers other than the root. Without :func:`take_over` there is nothing to put right.
    """
    if _ours is None:
        return
    root = logging.getLogger()
    known = [log for log in root.manager.loggerDict.values() if isinstance(log, logging.Logger)]
    removed = _give_way(root)
    if _ours not in root.handlers:
        root.addHandler(_ours)
    root.setLevel(_level.upper())
    # Parents before children: a child whose records reach a handler of ours needs none itself.
    for log in sorted(known, key=lambda log: log.name):
        removed += _give_way(log)
        if log.name.startswith(_NEEDED):
            log.disabled = False
    if removed:
        structlog.get_logger(__name__).debug("own handlers of the app gave way to this one", removed=removed)


def _handler_failed(handler: logging.Handler, record: logging.LogRecord) -> None:
    """Say in one line that a handler of the app's own failed; logging's own way is to print thirty."""
    words = f"{json_lines.shown(handler)} failed on a record of {record.name}"
    failure = logging.LogRecord("flask_ops.uncaught", logging.ERROR, "", 0, words, None, sys.exc_info())
    _ours.handle(failure)  # type: ignore[union-attr]


def _give_way(log: logging.Logger) -> list[str]:
    foreign = [
        handler
        for handler in log.handlers
        if isinstance(handler, logging.StreamHandler) and stdio.is_standard(handler.stream)
    ]
    for handler in foreign:
        log.removeHandler(handler)
    if foreign and not _reaches_ours(log):
        log.addHandler(_ours)  # type: ignore[arg-type]
    return [f"{handler!r} of {log.name}" for handler in foreign]


def _reaches_ours(log: logging.Logger | None) -> bool:
    while log is not None:
        if _ours in log.handlers:
            return True
        log = log.parent if log.propagate else None
    return False


def configure_unless_configured() -> None:
    """Configure logging for a process that gunicorn does not run: ``flask run``, ``flask db upgrade``."""
    if _ours is None and not logging.getLogger().handlers:
        level = (setting("GUNICORN_LOG_LEVEL", "info") or "info").lower()
        logging.config.dictConfig(dict_config(level, console=sys.stdout.isatty()))
        capture_uncaught()
