"""End every SQL statement of a request or a task with ``/* request_id='…' */``.

The comment shows in the server's log, in ``pg_stat_activity`` and in ``auto_explain``'s plans. It makes each
request's text a new one, which has a price: psycopg prepares no statement over several requests, and no
cache keyed by the text is hit. Measured on PostgreSQL 15, for each statement: about 10 µs of the worker's CPU
and 5 µs of the server's, for a select whose whole round costs 180 and 105. Where a plan is dear and a query
is repeated thousands of times a second, turn it off with ``FLASK_OPS_SQL_COMMENTS=0``.
"""

from __future__ import annotations

from typing import Any

from .importing import when_imported
from .request_id import current_request_id


def install() -> None:
    """Watch for SQLAlchemy and psycopg: nothing is imported that the app does not import."""
    when_imported("sqlalchemy", _listen)
    when_imported("psycopg", _extend_psycopg)


def comment() -> str:
    """Return the comment for the statements of this moment, empty outside a request or task.

    A request id holds only ``A-Za-z0-9_.-``: nothing that ends a comment, and no ``%`` for a driver to read
    as a parameter.
    """
    request_id = current_request_id()
    return f" /* request_id='{request_id}' */" if request_id else ""


def _listen() -> None:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    # On the class, so that every engine has it, whoever made it and when. Not `before_cursor_execute`: one
    # listener there makes SQLAlchemy look for listeners at ten places of a statement (27 µs more, measured).
    listeners = {"do_execute": _execute, "do_executemany": _executemany, "do_execute_no_params": _no_params}
    for name, listener in listeners.items():
        if not event.contains(Engine, name, listener):
            event.listen(Engine, name, listener)


def _execute(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    words = _for(cursor, context)
    if words:
        context.dialect.do_execute(cursor, statement + words, parameters, context)
    return bool(words)  # True: it has been executed


def _executemany(cursor: Any, statement: str, parameters: Any, context: Any) -> bool:
    words = _for(cursor, context)
    if words:
        context.dialect.do_executemany(cursor, statement + words, parameters, context)
    return bool(words)


def _no_params(cursor: Any, statement: str, context: Any) -> bool:
    words = _for(cursor, context)
    if words:
        context.dialect.do_execute_no_params(cursor, statement + words, context)
    return bool(words)


def _for(cursor: Any, context: Any) -> str:
    # SQLite has no server whose log could show it, and would parse each statement anew for nothing.
    if context.dialect.name == "sqlite" or hasattr(getattr(cursor, "_query_cls", None), "flask_ops_comments"):
        return ""
    return comment()


def _extend_psycopg() -> None:
    """Make psycopg add the comment after it has read the statement, not before.

    psycopg remembers how a text's placeholders are read; a text with a comment is never the same twice, and
    reading it takes as long as all the rest (13 µs, measured). These names are psycopg's own: without them,
    or beside somebody else who replaced them, SQLAlchemy's listener adds the comment instead.
    """
    try:
        from psycopg._cursor_base import BaseCursor
        from psycopg._queries import PostgresQuery
    except ImportError:
        return
    if getattr(BaseCursor, "_query_cls", None) is not PostgresQuery:
        return

    class CommentedQuery(PostgresQuery):
        __slots__ = ()
        flask_ops_comments = True

        def convert(self, query: Any, vars: Any) -> None:
            super().convert(query, vars)
            words = comment().encode()
            if words and words not in self.query:
                self.query += words

    BaseCursor._query_cls = CommentedQuery
