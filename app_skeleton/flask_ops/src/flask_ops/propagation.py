"""Carry the request id from nginx's edge into whatever a request causes."""

from __future__ import annotations

from .importing import when_imported
from .settings import boolean

SQL = "FLASK_OPS_SQL_COMMENTS"
OUTGOING = "FLASK_OPS_OUTGOING_REQUEST_ID"


def in_sql() -> bool:
    """Return whether SQL statements carry the request id.

    :raises SettingError: if :data:`SQL` is neither on nor off.
    """
    return boolean(SQL, True)


def in_outgoing_calls() -> bool:
    """Return whether outgoing HTTP calls carry the request id.

    :raises SettingError: if :data:`OUTGOING` is neither on nor off.
    """
    return boolean(OUTGOING, True)


def install() -> None:
    """Add the request id to SQL statements, outgoing HTTP calls and Celery's tasks.

    Nothing is imported for it that the app does not import itself. Calling it again changes nothing.

    :raises SettingError: if a switch is neither on nor off.
    """
    if in_sql():
        from . import sql_comments

        sql_comments.install()
    if in_outgoing_calls():
        from . import outgoing

        outgoing.install()
    when_imported("celery", _connect_celery)


def _connect_celery() -> None:
    from . import tasks  # noqa: F401 - importing it connects it
