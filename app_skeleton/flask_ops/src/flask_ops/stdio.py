"""Turn what is printed to stdout and stderr into log records.

An app that prints, a library that writes its own tracebacks, and gunicorn's last words before it gives up
all reach the journal as JSON this way. Out of reach is what does not go through ``sys.stdout`` and
``sys.stderr``: a failed import of flask_ops itself, Python's refusal to start, gunicorn's refusal of its
command line, C code that writes to descriptors 1 and 2 (an interpreter that crashes and ``faulthandler``
among it), ``os.write``, and programs the app starts.
"""

from __future__ import annotations

import atexit
import io
import logging
import os
import sys
import traceback
from threading import get_ident
from typing import Any, TextIO

#: Text that no end of line has come for, by stream and by thread or greenlet.
unfinished: dict[tuple[str, int], bytearray] = {}
#: Longer text is not waited for; nor is that of so many threads, most of which have ended by then.
_LONGEST_BYTES, _MOST_UNFINISHED = 64 * 1024, 1000
_LEVELS = {"stdout": logging.INFO, "stderr": logging.WARNING}
#: How journald is told how bad a line is, from which level on (sd-daemon(3)); it takes them off again. What
#: is too much it drops of each kind by itself (journald-rate-limit.c): errors outlast a flood of other lines.
#: One that says nothing is info to it.
_PRIORITIES = (
    (logging.CRITICAL, b"<2>"),
    (logging.ERROR, b"<3>"),
    (logging.WARNING, b"<4>"),
    (logging.INFO, b""),
)
_DEBUG = b"<7>"
_TRACEBACK = "Traceback (most recent call last):"

_real: dict[str, TextIO] = {}
_handler: logging.Handler | None = None
_least_level = logging.INFO
_to_journal = False


class _Raw(io.RawIOBase):
    """The bytes below a captured stream.

    :param name: ``stdout`` or ``stderr``.
    :param descriptor: what ``fileno()`` says, for code that hands the stream to another program.
    """

    def __init__(self, name: str, descriptor: int) -> None:
        """Keep what the stream stands for."""
        self.name = f"<{name}>"
        self._stream = name
        self._descriptor = descriptor

    def writable(self) -> bool:
        """Say yes."""
        return True

    def fileno(self) -> int:
        """Return the real descriptor; what is written to it is not captured."""
        return self._descriptor

    def write(self, data: Any) -> int:
        """Log text that ends a line, whole: what was printed in one go is one record. Keep the rest."""
        key = (self._stream, get_ident())
        text = unfinished.setdefault(key, bytearray())
        text += data
        if text.endswith(b"\n") or len(text) > _LONGEST_BYTES:
            unfinished.pop(key, None)
            _log(self._stream, text)
        elif len(unfinished) > _MOST_UNFINISHED:
            finish_lines(all_threads=True)
        return len(data)


def finish_lines(*, all_threads: bool = False) -> None:
    """Log text that no end of line has come for.

    :param all_threads: not only that of this thread or greenlet.
    """
    for key in list(unfinished):
        if all_threads or key[1] == get_ident():
            text = unfinished.pop(key, None)
            if text:
                _log(key[0], text)


def _log(stream: str, data: bytearray) -> None:
    text = data.decode("utf-8", "backslashreplace").strip("\r\n")
    level = _LEVELS[stream]
    if not text.strip() or _handler is None:
        return
    record = logging.LogRecord(stream, level, "", 0, text, None, None)
    if _TRACEBACK in text:
        record.levelno, record.levelname = logging.ERROR, "ERROR"
        record.msg, record.exc_text = text.rstrip().rpartition("\n")[2], text
    # Past the logging tree: an app may disable or silence a logger, and a handler of its own may print.
    if record.levelno >= _least_level:
        _handler.handle(record)


def capture(handler: logging.Handler, level: int = logging.INFO) -> None:
    """Replace ``sys.stdout`` and ``sys.stderr`` by streams whose text becomes log records.

    A later call only changes the handler and the level.

    :param handler: what writes the records, to the real stdout.
    :param level: the least one written. What is printed to stdout counts as info, to stderr as a warning, a
        traceback as an error.
    """
    global _handler, _least_level, _to_journal
    _handler, _least_level = handler, level
    if _real:
        return
    _to_journal = _leads_to_journal(sys.stdout.fileno())
    for name in _LEVELS:
        _real[name] = getattr(sys, name)
        raw = _Raw(name, getattr(sys, name).fileno())
        stream = io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True)  # type: ignore[type-var]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    traceback.TracebackException.print = _print_at_once  # type: ignore[method-assign]
    traceback.print_list = _print_list_at_once
    atexit.register(finish_lines, all_threads=True)
    os.register_at_fork(after_in_child=unfinished.clear)


def is_standard(stream: object) -> bool:
    """Return whether a handler's stream leads to stdout or stderr."""
    flask_logging = sys.modules.get("flask.logging")
    streams = [sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__, *_real.values()]
    return any(stream is one for one in [*streams, getattr(flask_logging, "wsgi_errors_stream", None)])


def _leads_to_journal(descriptor: int) -> bool:
    """Return whether it still is what systemd connected to the journal (systemd.exec(5))."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _priority(level: int) -> bytes:
    """Return what stands in front of a line for journald."""
    return next((told for least, told in _PRIORITIES if level >= least), _DEBUG)


def write_line(line: str, stdout: TextIO, level: int = logging.INFO) -> None:
    """Write one line to the real stdout, in one piece: other workers write to it too.

    A file and journald's socket keep it whole; a pipe does so up to 4 KiB (pipe(7), PIPE_BUF). A journal that
    is gone, or a full disk, must fail nobody's request.

    :param line: ASCII without an end of line.
    :param stdout: where to write it while nothing is captured.
    :param level: how bad it is, for the journal.
    """
    stream = _real.get("stdout")
    if stream is None:
        stdout.write(line + "\n")
        stdout.flush()
        return
    told = _priority(level) if _to_journal else b""
    data = memoryview(told + line.encode("ascii", "backslashreplace") + b"\n")
    try:
        while data:
            data = data[os.write(stream.fileno(), data) :]
    except OSError:
        return


def _print_at_once(self: Any, *, file: Any = None, chain: bool = True, **options: Any) -> None:
    """Print a traceback by one write, so that it becomes one record."""
    (sys.stderr if file is None else file).write("".join(self.format(chain=chain, **options)))


def _print_list_at_once(extracted_list: Any, file: Any = None) -> None:
    """Print a stack the same way."""
    (sys.stderr if file is None else file).write("".join(traceback.format_list(extracted_list)))
