"""What is different while a release's migrate command runs in its unit.

It waits for no lock longer than readers may be kept waiting behind it, and not for ever; it is tried again a
few times when that was not enough; no other migration of the database runs beside it, whichever host it is
on; and what contracts is left out, unless this is what was asked for.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from . import database, expanding, lock_waits
from .settings import SettingError, choice, number, service

MODE = "FLASK_OPS_MIGRATE"
LOCK_TIMEOUT = "FLASK_OPS_MIGRATE_LOCK_TIMEOUT_SECONDS"
#: sysexits(3), EX_TEMPFAIL: it may well work when it is run again. releasectl knows it.
GAVE_UP = 75
#: How long to wait before each further attempt, in seconds.
PAUSES_SECONDS = (1, 2, 4, 8)
#: Events that releasectl reads from the journal.
WAITS, GIVES_UP, LEFT_OUT = (
    "the migration waits for a lock",
    "the migration gave up on a lock",
    "revisions that contract are left out",
)

#: Runs something that returns, or exits with, a status, as often as it takes, and returns the status.
Attempt = Callable[[Callable[[], int | str | None]], int | str | None]


def lock_timeout_ms() -> int:
    """Return how long a migration may wait for a lock, in milliseconds.

    A tenth less than :data:`LOCK_TIMEOUT` says: who comes after it waits as long and has its own work to do.

    :raises SettingError: if it is not a number of at least 0.1.
    """
    return round(number(LOCK_TIMEOUT, 2, minimum=0.1) * 900)


@contextmanager
def frame() -> Iterator[Attempt]:
    """Put this process into the frame of a migration, if it is one; give what runs the command in it.

    :raises SettingError: if a setting is not understood.
    """
    mode = _mode()
    if not mode:
        yield lambda run: run()
        return
    pids: set[int] = set()
    lock_waits.limit_sessions(limits(), pids)
    if mode == "expand":
        expanding.hold_back(lambda revisions: tell(logging.INFO, LEFT_OUT, revisions=revisions))
    with ExitStack() as held:
        try:
            watch = _alone(held, pids)
        except lock_waits.TurnTaken as taken:
            tell(logging.ERROR, GIVES_UP, blocked_by=str(taken))
            yield lambda run: GAVE_UP
            return
        yield lambda run: _tried(run, watch)


def limits() -> dict[str, str]:
    """Return what PostgreSQL is told of every session of a migration.

    The app's own limit for statements is for requests: building an index may take an hour.
    """
    return {"lock_timeout": str(lock_timeout_ms()), "statement_timeout": "0"}


def environment() -> dict[str, str]:
    """Return the variables that have libpq limit the sessions of a migration; none outside its unit."""
    if not _mode():
        return {}
    options = " ".join(f"-c {name}={value}" for name, value in limits().items())
    return {"PGOPTIONS": f"{os.environ.get('PGOPTIONS', '')} {options}".strip(), "PGAPPNAME": service()}


def _mode() -> str:
    mode = choice(MODE, "no", ("no", "expand", "contract"))
    return "" if mode == "no" else mode


def require_held_back(command: str) -> None:
    """See that a command which this process does not run itself could apply nothing that contracts.

    :param command: what is about to take this process's place.
    :raises SettingError: if the release carries something that contracts, which nobody would hold back there.
    """
    if _mode() != "expand":
        return
    try:
        # The units of a release work in its folder `src`.
        told = json.loads((Path.cwd().parent / "release.json").read_text())["migrations"]
        names = [one["revision"] for one in told["revisions"] if one["contract"]]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if names:
        raise SettingError(
            f"{command!r} is not made of Python programs alone, and nothing in it would leave out what "
            f"contracts: {', '.join(names)}. Name a console script or `python -m module`, joined by &&."
        )


def _alone(held: ExitStack, pids: set[int]) -> lock_waits.Watch | None:
    """Wait for this migration's turn, and begin to watch; None where there is no PostgreSQL to ask."""
    url = database.address()
    try:
        import psycopg
    except ImportError:
        return None
    if url is None:
        return None
    try:
        connection = held.enter_context(database.connect(url, f"{service()}-turn"))
        held.enter_context(lock_waits.turn(connection))
    except psycopg.Error as error:
        # The command will say it better, if that is the database it needs.
        tell(logging.WARNING, "the database does not answer", cause=str(error))
        return None
    watch = lock_waits.Watch(connection, service(), pids)
    held.callback(watch.end)
    return watch


def _tried(run: Callable[[], int | str | None], watch: lock_waits.Watch | None) -> int | str | None:
    attempts = len(PAUSES_SECONDS) + 1
    for attempt, pause in enumerate((*PAUSES_SECONDS, None), start=1):
        status, error = _outcome(run)
        if error is None:
            return status
        blocked_by = watch.blockers() if watch else ""
        told = {"attempt": attempt, "attempts": attempts, "blocked_by": blocked_by or "nobody that was seen"}
        if pause is None:
            tell(logging.ERROR, GIVES_UP, error, **told)
            break
        tell(logging.WARNING, WAITS, pause_seconds=pause, **told)
        time.sleep(pause)
    return GAVE_UP


def _outcome(run: Callable[[], int | str | None]) -> tuple[int | str | None, BaseException | None]:
    """Return the status, or the error that came of a lock; every other one is raised."""
    try:
        return run(), None
    except SystemExit as end:
        # Command lines turn errors into a status; what they turned is still behind it.
        if end.code not in (0, None) and lock_waits.gave_up_waiting(end):
            return end.code, end
        raise
    except Exception as error:
        if lock_waits.gave_up_waiting(error):
            return 1, error
        raise


def tell(level: int, event: str, error: BaseException | None = None, **fields: object) -> None:
    """Write one line to the journal, whatever the app has done to logging since.

    Alembic's usual ``env.py`` switches off every logger there is (``logging.config.fileConfig``).
    """
    # Only where there is something to say: whoever asks for the schema waits for each import.
    from .logs import LineFormatter, LineHandler

    handler = LineHandler()
    handler.setFormatter(LineFormatter(console=sys.stdout.isatty()))
    info = (type(error), error, error.__traceback__) if error is not None else None
    record = logging.LogRecord(__name__, level, "", 0, event, None, info)
    vars(record).update(fields)
    handler.handle(record)
