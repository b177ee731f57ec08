"""End a request that waits for ever or spins, as a 503, and free what it held.

The limit holds for the call of the app and for each wait for the next chunk of a body: a stream may last for
hours as long as something comes more often than the limit. One that is silent for longer is cut, so let
server-sent events carry a comment line (``: still here``) every few seconds. A request that asks to become
another protocol (``Upgrade: websocket``) is not limited; nginx passes that header on only where it is told.

What a worker class gets, see :mod:`flask_ops.watchdog` for how:

==========  =====================================  ==========================================================
class       waits                                  spins
==========  =====================================  ==========================================================
gevent      503, nothing else is touched           503, then the worker is recycled gracefully
sync        503, then the worker is recycled       the same
gthread     503 some seconds late; its thread is   503, then the worker is recycled
            lost, so the worker is recycled
==========  =====================================  ==========================================================

Code in C that neither yields nor heeds signals is not interrupted anywhere: after some further seconds a
gevent or sync worker is ended. All that it ran is lost, other requests too, and answered 503. C code that
keeps the interpreter's lock stops the watchdog too; gunicorn's own ``timeout`` ends that worker, and what
it ran becomes nginx's 502.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from types import CodeType
from typing import Any

import structlog

from .settings import Reader, number

_STATUS = "503 Service Unavailable"
_log = structlog.get_logger("flask_ops.deadline")


class DeadlineExceeded(BaseException):
    """The request has taken too long.

    Not an ``Exception``: an app that catches those would go on working for a client that is gone.
    """


class Guarded:
    """App code that must end in time.

    :ivar since: when it began (``time.monotonic``), 0 while no app code runs.
    :ivar where: the greenlet, or the native id of the thread, that runs it.
    :ivar first: when it was first told to end, 0 if it was not.
    :ivar given_up: whether it has been told for too long.
    """

    __slots__ = ("first", "given_up", "since", "where")

    def __init__(self, where: Any) -> None:
        """Begin outside app code."""
        self.where = where
        self.since = self.first = 0.0
        self.given_up = False

    def leave(self) -> None:
        """Note that app code has ended, and take back an interrupt that is still on its way to it."""
        # In this order: the watchdog sets `first` before it looks at `since`, so one of the two sees the
        # other.
        self.since = 0.0
        if self.first:
            _take_back(self)


#: What runs now; the watchdog looks at it from its own thread.
running: set[Guarded] = set()
#: Called once for each request that is ended.
on_timeout: list[Callable[[], None]] = []

_seconds = 0.0
_here: Callable[[], Any] = lambda: None  # noqa: E731
_take_back: Callable[[Guarded], None] = lambda guarded: None  # noqa: E731


def enforce(seconds: float, here: Callable[[], Any], take_back: Callable[[Guarded], None]) -> None:
    """Limit requests from now on; only a process with a watchdog can.

    :param seconds: the limit, 0 for none.
    :param here: returns what to put into :attr:`Guarded.where`.
    :param take_back: removes an interrupt that has not arrived.
    """
    global _seconds, _here, _take_back
    _seconds, _here, _take_back = seconds, here, take_back


def seconds() -> float:
    """Return the limit in force, 0 for none."""
    return _seconds


def limited(
    app: Callable[..., Iterable[bytes]], environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """Call a WSGI app, and answer 503 in its place once the limit has passed.

    :param app: the app.
    :param environ: the request.
    :param start_response: the server's; called when the first chunk is there, so that the answer can still be
        another one until then.
    """
    if not _seconds or "HTTP_UPGRADE" in environ:
        return app(environ, start_response)
    return Call(environ, start_response).run(app)


def answer() -> tuple[list[tuple[str, str]], bytes]:
    """Return the headers and the body of the 503."""
    body = json.dumps({"error": f"This took longer than {_seconds:g} s and was ended."}).encode() + b"\n"
    return [("Content-Type", "application/json"), ("Content-Length", str(len(body)))], body


def count() -> None:
    """Tell :data:`on_timeout` of a request that was ended."""
    for hook in on_timeout:
        hook()


def require_order(read: Reader, *, graceful_timeout: float, timeout: float) -> None:
    """Read this module's settings, and note a mistake unless each time limit can do its work.

    :param read: collects the mistakes.
    :param graceful_timeout: gunicorn's, in seconds.
    :param timeout: gunicorn's, in seconds.
    """
    limit, blocked = settings(read)
    read.require(
        limit < graceful_timeout,
        f"FLASK_OPS_REQUEST_DEADLINE_SECONDS={limit:g} must be below "
        f"GUNICORN_GRACEFUL_TIMEOUT_SECONDS={graceful_timeout:g}: "
        "a stopping worker would be killed before its requests are answered.",
    )
    read.require(
        limit + patience(limit) < timeout,
        f"FLASK_OPS_REQUEST_DEADLINE_SECONDS={limit:g} must be {patience(limit):g} s and more below "
        f"GUNICORN_TIMEOUT_SECONDS={timeout:g}: "
        "gunicorn would kill a blocked worker before its requests are answered.",
    )
    read.require(
        not (limit and blocked) or blocked < limit,
        f"FLASK_OPS_BLOCKED_SECONDS={blocked:g} must be below "
        f"FLASK_OPS_REQUEST_DEADLINE_SECONDS={limit:g}: the block would end before its stack is logged.",
    )


def settings(read: Callable[..., Any]) -> tuple[float, float]:
    """Return the limit of a request and that of a blocked hub, in seconds; 0 is none.

    :param read: reads one setting, such as a ``settings.Reader``.
    """
    limit = read(number, "FLASK_OPS_REQUEST_DEADLINE_SECONDS", 25)
    # Whoever lowers the one alone must not have to know of the other.
    return limit, read(number, "FLASK_OPS_BLOCKED_SECONDS", min(5, limit / 2) if limit else 5)


def patience(limit: float) -> float:
    """Return for how many seconds after the limit a request is told to end before it is given up."""
    return min(5.0, max(1.0, limit / 5))


class Call(Guarded):
    """One request inside the app, and the body that comes of it.

    :param environ: the request.
    :param start_response: the server's.
    """

    __slots__ = ("_body", "_head", "_next", "_start", "answered", "environ", "head_sent")

    def __init__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> None:
        """Begin outside the app."""
        # Not through Guarded's: this runs for each request.
        self.where = _here()
        self.since = self.first = 0.0
        self.given_up = self.answered = self.head_sent = False
        self.environ = environ
        self._start = start_response
        self._head: tuple[str, list[tuple[str, str]]] | None = None
        self._body: Any = None

    def run(self, app: Callable[..., Iterable[bytes]]) -> Iterable[bytes]:
        """Call the app.

        :raises ConnectionResetError: if the client has had another answer meanwhile.
        """
        running.add(self)
        streams = False
        try:
            # Twice, because an interrupt may arrive in `leave` as well.
            try:
                try:
                    self.since = monotonic()
                    body = app(self.environ, self.start_response)
                finally:
                    self.leave()
            except DeadlineExceeded as error:
                return self._too_late(error)
            if self.answered:
                raise _cut()
            # What is there whole cannot be waited for, and the server has a fast way of its own for files.
            if (
                type(body) in (list, tuple)
                or type(body) is self.environ.get("wsgi.file_wrapper")
                or not hasattr(body, "__iter__")
            ):
                self._send_head()
                return body
            self._body, self._next, streams = body, iter(body).__next__, True
            return self
        finally:
            if not streams:
                running.discard(self)

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """Keep the head until the first chunk is there (PEP 3333 allows a layer to)."""
        if self.head_sent:
            # For an error in the middle of a body; the server raises it again.
            return self._start(status, headers, exc_info)
        self._head = (status, headers)
        return self._write

    def _write(self, data: bytes) -> None:
        self._send_head()(data)

    def _send_head(self) -> Any:
        write = None
        if self._head is not None and not self.head_sent:
            self.head_sent = True
            write = self._start(*self._head)
        return write

    def __iter__(self) -> Iterator[bytes]:
        """Return itself."""
        return self

    def __next__(self) -> bytes:
        """Return the next chunk.

        :raises ConnectionResetError: if it did not come in time and a part has been sent already.
        """
        try:
            try:
                self.since = monotonic()
                chunk = self._next()
            finally:
                self.leave()
        except StopIteration:
            self._send_head()
            raise
        except DeadlineExceeded as error:
            rest = iter(self._too_late(error))
            self._next = rest.__next__
            return self._next()
        if not self.head_sent:
            if self.answered:
                raise _cut()
            self._send_head()
        return chunk

    def close(self) -> None:
        """Close the app's body; servers do so whatever happened."""
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                try:
                    self.since = monotonic()
                    close()
                finally:
                    self.leave()
        except DeadlineExceeded as error:
            self._report(error)
        finally:
            running.discard(self)

    def _too_late(self, error: DeadlineExceeded) -> list[bytes]:
        self._report(error)
        if self.answered or self.head_sent:
            # OSErrors of this kind close the connection in every worker class and are logged at debug.
            raise _cut() from None
        headers, body = answer()
        self.head_sent = True
        self._start(_STATUS, headers)
        return [b"" if self.environ["REQUEST_METHOD"] == "HEAD" else body]

    def _report(self, error: DeadlineExceeded) -> None:
        self.leave()
        if not self.answered:
            count()
        _log.error(
            "request ended at its deadline",
            method=self.environ.get("REQUEST_METHOD"),
            path=self.environ.get("PATH_INFO"),
            seconds=_seconds,
            cut=self.head_sent,
            exc_info=error,
        )


def _cut() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "The request was ended at its deadline")


#: The code by which a thread enters what is guarded.
entries: set[CodeType] = {Call.run.__code__, Call.__next__.__code__, Call.close.__code__}
