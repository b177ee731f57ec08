"""Databases for tests that both kinds have to pass, and what is asked of them."""

from contextlib import contextmanager

import psycopg
from inbox.models import db
from sqlalchemy import event


@contextmanager
def counted(app):
    """Collect the statements that an app sends to its database."""
    statements = []

    def note(_connection, _cursor, statement, *_):
        statements.append(statement)

    with app.app_context():
        engine = db.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", note)


def emptied(url):
    """Return the address of a PostgreSQL database after everything in it is gone."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        connection.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    return url
