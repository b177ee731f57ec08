"""One beat, however many hosts start one, and while one release hands over to the next.

Every beat runs; the one that holds a lock of PostgreSQL's ticks. When it goes away, or its host does, its
connection ends and with it the lock: the next one ticks a few seconds later. Nothing is kept on disk: what is
due stands in the database, and each of the tasks sees for itself whether there is anything to do.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery.beat import Scheduler as InMemoryScheduler
from flask import Flask
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from .models import db

#: Any number, the same for every release and host; another than that of migrations.
ADVISORY_LOCK = 0x626561740A
#: A host that lost its power says nothing: PostgreSQL asks, and ends the connection after so many seconds.
#: The kernel's default is more than two hours.
_KEEPALIVE = {"tcp_keepalives_idle": 5, "tcp_keepalives_interval": 2, "tcp_keepalives_count": 3}
#: How often a beat without the lock asks for it.
ASK_SECONDS = 3.0

log = structlog.get_logger(__name__)


class Turn:
    """Whose turn it is: a session-level advisory lock on a connection of its own."""

    def __init__(self, app: Flask) -> None:
        """Use an app's database."""
        self._app = app
        self._connection: Connection | None = None

    def is_mine(self) -> bool:
        """Return whether this process holds the lock, and take it if it is free."""
        with self._app.app_context():
            if db.engine.dialect.name != "postgresql":
                return True  # one developer's machine
            try:
                return self._holds() or self._takes()
            except SQLAlchemyError as error:
                log.warning("beat cannot ask the database", error=type(error).__name__)
                self.leave()
                return False

    def leave(self) -> None:
        """Let the next one have it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # Closed for good, not given back to the pool: the lock belongs to the connection.
            connection.invalidate()
            connection.close()

    def _holds(self) -> bool:
        if self._connection is None:
            return False
        self._connection.execute(text("SELECT 1"))
        return True

    def _takes(self) -> bool:
        connection = db.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            for setting, value in _KEEPALIVE.items():
                connection.execute(text(f"SET {setting} = {value}"))
            if connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_LOCK}):
                self._connection, connection = connection, None
                log.info("beat ticks here from now on")
                return True
            return False
        finally:
            if connection is not None:
                connection.close()


class Scheduler(InMemoryScheduler):
    """Celery's scheduler, while it is this process's turn."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin without the lock."""
        super().__init__(*args, **kwargs)
        self._turn = Turn(self.app.flask_app)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due; return how many seconds until the next look."""
        if not self._turn.is_mine():
            return ASK_SECONDS
        return super().tick(*args, **kwargs)

    def close(self) -> None:
        """Let the next one tick."""
        self._turn.leave()
        super().close()
