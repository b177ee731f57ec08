"""Wait for PostgreSQL's locks as a migration should: not for long, one at a time, and knowing for whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg

#: Any number, the same for every release: who holds it in the app's database migrates.
_ADVISORY_LOCK = 0x666C61736B6F7073
_TURN_SECONDS = 60
_LOOK_SECONDS = 0.2
_LOCK_NOT_AVAILABLE = "55P03"
_LONGEST_CHAIN = 50
#: Who keeps the sessions of ours waiting that wait. Not their statements: those may hold anything.
_BLOCKERS = """
SELECT DISTINCT other.pid, other.usename, other.application_name, other.state,
       round(extract(epoch FROM now() - coalesce(other.xact_start, other.backend_start)))::int
FROM pg_stat_activity ours
CROSS JOIN LATERAL unnest(pg_blocking_pids(ours.pid)) blocking
JOIN pg_stat_activity other ON other.pid = blocking
WHERE ours.wait_event_type = 'Lock' AND ours.datname = current_database()
  AND (ours.pid = ANY(%s) OR ours.application_name = %s)
ORDER BY other.pid LIMIT 5
"""
_HOLDERS = """
SELECT other.pid, other.usename, other.application_name, other.state,
       round(extract(epoch FROM now() - other.backend_start))::int
FROM pg_locks JOIN pg_stat_activity other USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND ((classid::bigint << 32) | objid::bigint) = %s
  AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class TurnTaken(Exception):
    """Another migration of this database has not ended; the words name it."""


def gave_up_waiting(error: BaseException | None) -> bool:
    """Return whether an error came of a lock that was not to be had, by PostgreSQL's own code for it.

    Whatever driver met it, and whatever it was wrapped in: SQLSTATE 55P03 (PostgreSQL's appendix A) stands in
    an attribute of psycopg's and psycopg2's errors, and in pg8000's arguments.
    """
    waiting, seen = [error], 0
    while waiting and seen < _LONGEST_CHAIN:
        one, seen = waiting.pop(), seen + 1
        if one is None:
            continue
        if _LOCK_NOT_AVAILABLE in (getattr(one, "sqlstate", None), getattr(one, "pgcode", None), _code(one)):
            return True
        context = None if one.__suppress_context__ else one.__context__
        waiting += [one.__cause__, context, _exception(getattr(one, "orig", None))]
    return False


def _code(error: BaseException) -> object:
    told = error.args[0] if error.args else None
    return told.get("C") if isinstance(told, dict) else None


def _exception(value: object) -> BaseException | None:
    return value if isinstance(value, BaseException) else None


def limit_sessions(settings: dict[str, str], pids: set[int]) -> None:
    """Give each session that SQLAlchemy opens from here on its limits, whatever the app set for its requests.

    ``PGOPTIONS`` alone is what libpq falls back to: an app that passes ``options`` never sees it.

    :param settings: the values of PostgreSQL's settings by their names.
    :param pids: filled with the sessions' process ids at the server.
    """
    try:
        from sqlalchemy import event
        from sqlalchemy.pool import Pool
    except ImportError:
        return

    @event.listens_for(Pool, "connect")
    def limit(session: Any, _record: Any) -> None:
        pid = backend_pid(session)
        if pid is None:
            return
        pids.add(pid)
        cursor = session.cursor()
        for name, value in settings.items():
            cursor.execute(f"SET {name} = {value}")
        cursor.close()
        # In a transaction that is rolled back they would be what they were.
        session.commit()


def backend_pid(session: Any) -> int | None:
    """Return a session's process id at a PostgreSQL server; None for other databases, and other drivers."""
    pid = getattr(getattr(session, "info", None), "backend_pid", None)
    return pid if pid is not None else getattr(session, "get_backend_pid", lambda: None)()


class Watch:
    """Look, all the while, whether somebody keeps our sessions waiting.

    Once a session has given up, nobody can tell any more for whom it waited.

    :param connection: one of its own to the database.
    :param name: what ``pg_stat_activity`` calls our sessions.
    :param pids: process ids of others of ours.
    """

    def __init__(self, connection: psycopg.Connection, name: str, pids: set[int]) -> None:
        """Begin to look."""
        self._connection, self._name, self._pids = connection, name, pids
        self._blockers = ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="lock-watch", daemon=True)
        self._thread.start()

    def blockers(self) -> str:
        """Return who was waited for last, in words, and forget it; empty if nobody was seen."""
        found, self._blockers = self._blockers, ""
        return found

    def end(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join(5)

    def _look(self) -> None:
        import psycopg

        while not self._over.wait(_LOOK_SECONDS):
            try:
                rows = self._connection.execute(_BLOCKERS, (list(self._pids), self._name)).fetchall()
            except psycopg.Error:
                return
            self._blockers = _words(rows) or self._blockers


@contextmanager
def turn(connection: psycopg.Connection) -> Iterator[None]:
    """Hold the one lock in the database that a migration of its needs, on whatever host.

    It ends with the connection, so a migration that is killed keeps nobody waiting.

    :raises TurnTaken: if another one has it for a minute.
    """
    deadline = time.monotonic() + _TURN_SECONDS
    # Asked for again and again: CREATE INDEX CONCURRENTLY of the one whose turn it is waits for every
    # statement that is older, and one that waits for the lock would be such a one, for ever.
    while not _scalar(connection, "SELECT pg_try_advisory_lock(%s)"):
        if time.monotonic() > deadline:
            rows = connection.execute(_HOLDERS, (_ADVISORY_LOCK,)).fetchall()
            raise TurnTaken(f"another migration, {_words(rows) or 'which nobody can see'}")
        time.sleep(_LOOK_SECONDS)
    try:
        yield
    finally:
        if not connection.closed:
            _scalar(connection, "SELECT pg_advisory_unlock(%s)")


def _scalar(connection: psycopg.Connection, question: str) -> Any:
    row = connection.execute(question, (_ADVISORY_LOCK,)).fetchone()
    return row[0] if row else None


def _words(rows: list[tuple[Any, ...]]) -> str:
    said = [
        f"pid {pid} ({user}, {name or 'unnamed'}, {state}, {age} s)" for pid, user, name, state, age in rows
    ]
    return ", ".join(said)
