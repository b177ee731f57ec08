"""Write messages as CSV, as many as there are, to whoever reads slowly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, func, select

from ..models import db
from . import csv_file
from .inbox import Filters
from .models import Message

PAGE_ROWS = 500
#: Of bodies in memory at once.
CHUNK_BYTES = 2 * 1024 * 1024
_COLUMNS = (Message.source, Message.delivery_id, Message.event, Message.received_at, Message.body)


def stream(filters: Filters) -> Iterator[bytes]:
    """Return the messages there are now as a CSV file, in pieces, the oldest first.

    Each piece is read for itself: while a client takes its time no transaction is open and no connection
    taken. The pieces need no app context.

    Messages without a delivery id are left out. A release that took any text for a message wrote them: it
    could be a formula to a spreadsheet, and an import refuses it or, under an id made up here, would store
    it a second time. Page, API and README say so.

    :param filters: which messages.
    """
    # What arrives meanwhile would make a busy inbox's export endless. Asked now: a database that is away is
    # an error before the first byte.
    last = _ask(db.engine, select(func.max(Message.id)))[0][0] or 0
    return _pieces(db.engine, filters, last)


def _pieces(engine: Engine, filters: Filters, last: int) -> Iterator[bytes]:
    yield csv_file.header()
    after = 0
    while after < last:
        page = _page(engine, filters, after, last)
        for ids in _chunks(page):
            rows = _ask(engine, select(*_COLUMNS).where(Message.id.in_(ids)).order_by(Message.id))
            yield b"".join(csv_file.row(*row) for row in rows)
        if len(page) < PAGE_ROWS:
            return
        after = page[-1][0]


def _page(engine: Engine, filters: Filters, after: int, last: int) -> list[tuple[int, int]]:
    """Return ids with how large the bodies are."""
    # PostgreSQL knows a text's bytes without reading it; older SQLite has no word for them.
    size = func.octet_length if engine.dialect.name == "postgresql" else func.length
    query = select(Message.id, size(Message.body)).where(
        Message.id > after, Message.id <= last, Message.delivery_id.is_not(None)
    )
    return [tuple(row) for row in _ask(engine, filters.apply(query).order_by(Message.id).limit(PAGE_ROWS))]


def _chunks(page: list[tuple[int, int]]) -> Iterator[list[int]]:
    """Yield a page's ids in groups that fit in memory."""
    ids: list[int] = []
    size = 0
    for message_id, length in page:
        if ids and size + length > CHUNK_BYTES:
            yield ids
            ids, size = [], 0
        ids.append(message_id)
        size += length
    if ids:
        yield ids


def _ask(engine: Engine, query: Any) -> list[Any]:
    """Return a query's rows; no transaction is left open."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        return list(connection.execute(query))
