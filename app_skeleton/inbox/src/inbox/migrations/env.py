"""Run migrations against the app's database: ``flask db upgrade`` has Alembic execute this file."""

from __future__ import annotations

import time

from alembic import context
from flask import current_app
from flask_ops import migrating
from inbox.models import UTCDateTime
from sqlalchemy import Connection, text

#: Any number, the same for every release: who holds it migrates.
_ADVISORY_LOCK = 0x696E626F78
_WAIT_FOR_OTHERS_SECONDS = 60


def _take_turns(connection: Connection) -> None:
    """Let one migration run at a time, and let none of them block readers for long.

    A migration that waits for a table's lock makes every later reader of it wait as well; it is better to
    give up, change nothing, and be run again.
    """
    if connection.dialect.name != "postgresql":
        return
    deadline = time.monotonic() + _WAIT_FOR_OTHERS_SECONDS
    # Asked for again and again, in a transaction each: CREATE INDEX CONCURRENTLY of the one whose turn it is
    # waits for every open transaction, and one that waits for the lock would be such a one, for ever.
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _ADVISORY_LOCK}):
        connection.rollback()
        if time.monotonic() > deadline:
            raise TimeoutError("Another migration has not ended: try again later.")
        time.sleep(0.2)
    # What the unit of a deploy has set already, for whoever runs it by hand.
    for name, value in migrating.limits().items():
        connection.execute(text(f"SET {name} = {value}"))
    # The lock and the settings are the session's and outlast the transaction; they end with the connection.
    connection.commit()


def _render(kind: str, item: object, _context: object) -> str | bool:
    """Write a column's type of our own as what it is to the database: a migration outlives the app's code."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UTCDateTime) else False


def _run_offline() -> None:
    migrate = current_app.extensions["migrate"]
    url = migrate.db.engine.url.render_as_string(hide_password=True)
    context.configure(url=url, target_metadata=migrate.db.metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()


def _run_online() -> None:
    migrate = current_app.extensions["migrate"]
    with migrate.db.engine.connect() as connection:
        _take_turns(connection)
        context.configure(
            connection=connection,
            target_metadata=migrate.db.metadata,
            # A migration that succeeded stays when a later one fails, and one may step out of its transaction
            # (autocommit_block, for CREATE INDEX CONCURRENTLY) without committing its neighbours.
            transaction_per_migration=True,
            render_item=_render,
            **migrate.configure_args,
        )
        with context.begin_transaction():
            context.run_migrations()
        # Back in the pool it would take its lock and its limits along.
        connection.invalidate()


if context.is_offline_mode():
    _run_offline()
else:
    _run_online()
