"""Cut long lists into pages by what the last row was, not by counting rows.

Rows that arrive meanwhile shift nothing, and page 1,000 costs what page 1 does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select
from werkzeug.exceptions import BadRequest

from .models import ID_MAX, db


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, newest first.

    :param next_cursor: where the next page starts, None on the last one.
    """

    items: Sequence[Any]
    next_cursor: str | None


def newest(query: Select, id_column: Any, limit: int, cursor: int | None = None) -> Page:
    """Return a query's rows, newest first, in one round trip.

    :param query: what to list, without an order.
    :param id_column: the column that grows with each row.
    :param limit: how many at most.
    :param cursor: only rows with a smaller id.
    """
    query = query.order_by(id_column.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(id_column < cursor)
    found = db.session.scalars(query).all()
    return Page(found[:limit], str(found[limit - 1].id) if len(found) > limit else None)


def cursor_of(text: str | None) -> int | None:
    """Return what ``?cursor=`` says, None if it is not given.

    :raises BadRequest: if it is none that a page gave.
    """
    if not text:
        return None
    # Longer than any id, and int() of a million digits is slow on purpose.
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and 1 <= int(text) <= ID_MAX):
        raise BadRequest("cursor is not one that a page gave: take it from next_cursor.")
    return int(text)
