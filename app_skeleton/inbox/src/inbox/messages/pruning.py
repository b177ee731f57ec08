"""Delete what nobody needs any more, a little at a time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import current_app
from sqlalchemy import ColumnElement, delete, func, select

from ..models import db, now
from .models import ImportFile, Message

#: Rows a statement: none holds its locks for long, and replication keeps up.
BATCH = 1000
BATCHES_MAX = 200


def prune() -> int:
    """Delete messages that are done and older than RETENTION_DAYS, with their attempts; return how many.

    One that came long ago and was done of late, as by an import or a replay, is kept as long from then on.
    What is known of CSV files read long ago goes as well. What was given up is kept: somebody must still look
    at it. Tallies and reports are kept too.
    """
    before = now() - timedelta(days=current_app.config["RETENTION_DAYS"])
    _delete(ImportFile, ImportFile.ended_at < before)
    # The first of them is for the index alone.
    done_at = func.coalesce(Message.processed_at, Message.received_at)
    return _delete(Message, Message.received_at < before, done_at < before, Message.status == "done")


def _delete(model: Any, *conditions: ColumnElement[bool]) -> int:
    """Delete rows, and return how many."""
    old = select(model.id).where(*conditions).order_by(model.id).limit(BATCH)
    deleted = 0
    for _ in range(BATCHES_MAX):
        # Said again: PostgreSQL looks once more at a row that was changed while it waited for its lock, such
        # as one that is being replayed, and only at what stands here.
        statement = delete(model).where(model.id.in_(old), *conditions)
        count = db.session.execute(statement.execution_options(synchronize_session=False)).rowcount
        db.session.commit()
        deleted += count
        if count < BATCH:
            break
    return deleted
