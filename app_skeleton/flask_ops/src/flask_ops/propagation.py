"""Carry the request id from nginx's edge into whatever a request causes."""

from __future__ import annotations

from .importing import when_imported
from .settings import boolean

SQL = "FLASK_OPS_SQL_COMMENTS"
OUTGOING = "FLASK_OPS_OUTGOING_REQUEST_ID"


def install() -> None:
    """Add the request id to SQL statements, outgoing HTTP calls and Celery's tasks.

    Nothing is imported for it that the app does not import itself. Calling it again changes nothing.

    :raises SettingError: if a switch is neither on nor off.
    """
    if boolean(SQL, True):
        from . import sql_comments

        sql_comments.install()
    if boolean(OUTGOING, True):
        from . import outgoing

        outgoing.install()
    when_imported("celery", _connect_celery)


def _connect_celery() -> None:
    from . import tasks  # noqa: F401 - importing it connects it
