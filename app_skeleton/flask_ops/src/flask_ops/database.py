"""Reach the app's PostgreSQL beside the app, by the address both are given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .settings import credential, setting

if TYPE_CHECKING:
    import psycopg


def address() -> str | None:
    """Return ``DATABASE_URL`` as libpq takes it; None if it is unset or names another kind of database."""
    url = setting("DATABASE_URL", None) or ""
    scheme, _, rest = url.partition("://")
    dialect = scheme.partition("+")[0]
    return f"{dialect}://{rest}" if dialect in ("postgresql", "postgres") else None


def connect(url: str, name: str, **options: Any) -> psycopg.Connection:
    """Open a connection that commits each statement.

    :param url: as :func:`address` gives it. A password comes from the credential ``database_password``.
    :param name: what ``pg_stat_activity`` calls it.
    :param options: for libpq.
    """
    import psycopg

    password = credential("database_password", None)
    secret = {"password": password} if password else {}
    told = {"connect_timeout": 2, "application_name": name, **options, **secret}
    return psycopg.connect(url, autocommit=True, **told)
