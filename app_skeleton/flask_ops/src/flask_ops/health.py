"""Answer whether this instance is alive, started and ready."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import structlog

log = structlog.get_logger(__name__)

#: A check may not take longer, so that ``/readyz`` answers within two seconds whatever hangs.
MAX_TIMEOUT_SECONDS = 1.5
#: A prober asks more often than the answer changes; dependencies are not asked more often than this.
CACHE_SECONDS = 1.0
#: Runs of one check that hang at the same time. More than one, so that recovery is seen while the first still
#: hangs.
MAX_HANGING = 3
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class Found(dict[str, object]):
    """What a check found beside that all is well, for operators: JSON, without secrets.

    A type of its own, since a check may return whatever it asked its dependency for.
    """


@dataclass(frozen=True, slots=True)
class Check:
    """One thing a request needs.

    :param name: shown to operators and in logs: lower-case letters, digits, ``-``, ``_``.
    :param call: returns if the dependency can be used, raises if not. Runs in a thread (a greenlet under
        gevent) inside an app context, never in the request's. :class:`Found` that it returns is shown
        to operators.
    :param timeout_seconds: how long it may take, at most :data:`MAX_TIMEOUT_SECONDS`.
    :raises ValueError: if the name or the time is not allowed.
    """

    name: str
    call: Callable[[], object]
    timeout_seconds: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what would surprise at three in the morning."""
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"check name {self.name!r} is not made of a-z 0-9 - _")
        if not 0 < self.timeout_seconds <= MAX_TIMEOUT_SECONDS:
            raise ValueError(
                f"check {self.name!r}: timeout_seconds={self.timeout_seconds} "
                f"is not within 0 to {MAX_TIMEOUT_SECONDS}"
            )


@dataclass(frozen=True, slots=True)
class Result:
    """What one check found.

    :param id: the check's name.
    :param state: ``ok``, ``failed`` or ``timeout``.
    :param duration_ms: how long it took, or has been hanging.
    :param error: the name of the exception's class.
    :param cause: the exception's words. For logs alone: they may hold a host or a user.
    :param found: what the check returned, if it is :class:`Found`.
    """

    id: str
    state: str
    duration_ms: int
    error: str | None = None
    cause: str | None = None
    found: Found | None = None

    def public(self) -> dict[str, object]:
        """Return what an internal caller may see."""
        told = {"id": self.id, "state": self.state, "duration_ms": self.duration_ms, "error": self.error}
        return told if self.found is None else {**told, "found": self.found}


class _Run:
    """One run of a check, in a daemon thread that may outlive its time limit."""

    def __init__(self, check: Check, context: Callable[[], AbstractContextManager[object]]) -> None:
        self.check = check
        self._context = context
        self._done = threading.Event()
        self._error: Exception | None = None
        self._found: Found | None = None
        self._started = time.monotonic()
        self._seconds = 0.0
        threading.Thread(target=self._work, name=f"check-{check.name}", daemon=True).start()

    def _work(self) -> None:
        try:
            with self._context():
                found = self.check.call()
                self._found = found if isinstance(found, Found) else None
        except Exception as error:
            self._error = error
        finally:
            self._seconds = time.monotonic() - self._started
            self._done.set()

    @property
    def hangs(self) -> bool:
        return not self._done.is_set()

    def result(self) -> Result:
        """Wait for the rest of this check's own time, then say what is known."""
        left = self._started + self.check.timeout_seconds - time.monotonic()
        if not self._done.wait(max(0.0, left)):
            waited = round((time.monotonic() - self._started) * 1000)
            return Result(self.check.name, "timeout", waited, "TimeoutError")
        milliseconds = round(self._seconds * 1000)
        if self._error is None:
            return Result(self.check.name, "ok", milliseconds, found=self._found)
        return Result(self.check.name, "failed", milliseconds, type(self._error).__name__, str(self._error))


class Readiness:
    """Run the checks side by side, each within its own time, and remember the answer for a moment.

    :param checks: what a request needs.
    :param context: entered around each check, such as a Flask app's ``app_context``.
    :raises ValueError: if two checks have one name.
    """

    def __init__(
        self,
        checks: Iterable[Check] = (),
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """Start with nothing asked and nothing known."""
        self._checks = tuple(checks)
        names = [check.name for check in self._checks]
        if len(set(names)) != len(names):
            raise ValueError(f"check names are not unique: {', '.join(sorted(names))}")
        self._context = context
        self._lock = threading.Lock()
        self._hanging: dict[str, list[_Run]] = {name: [] for name in names}
        self._results: tuple[Result, ...] = ()
        self._fresh_until = 0.0
        self._reported: tuple[tuple[str, str | None], ...] | None = None
        #: Whether it has ever been ready; a start is over only once.
        self.started = False

    def results(self) -> tuple[Result, ...]:
        """Return what the checks found, at most :data:`CACHE_SECONDS` ago."""
        with (
            self._lock
        ):  # a second prober waits for the first one's answer instead of asking the database again
            if time.monotonic() >= self._fresh_until:
                self._results = self._run_all()
                self._fresh_until = time.monotonic() + CACHE_SECONDS
                self._report()
            return self._results

    def ready(self) -> bool:
        """Return whether every check is ok."""
        ready = all(result.state == "ok" for result in self.results())
        self.started = self.started or ready
        return ready

    def _run_all(self) -> tuple[Result, ...]:
        runs = []
        for check in self._checks:
            hanging = [run for run in self._hanging[check.name] if run.hangs]
            run = hanging[0] if len(hanging) >= MAX_HANGING else _Run(check, self._context)
            self._hanging[check.name] = hanging if run in hanging else [*hanging, run]
            runs.append(run)
        return tuple(run.result() for run in runs)

    def _report(self) -> None:
        failed = [result for result in self._results if result.state != "ok"]
        failing = tuple((result.id, result.error) for result in failed)
        if failing == self._reported:
            return
        self._reported = failing
        if failed:
            log.warning("not ready", failed={result.id: result.cause or result.error for result in failed})
        else:
            log.info("ready", checks=[result.id for result in self._results])
