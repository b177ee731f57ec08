"""The database, and what every table has in common."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from typing import Annotated, Any

from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    BigInteger,
    DateTime,
    Dialect,
    Engine,
    Identity,
    Integer,
    MetaData,
    TypeDecorator,
    event,
)
from sqlalchemy.orm import DeclarativeBase, mapped_column

#: The largest BIGINT: a larger id is an error in the database driver, not a missing row.
ID_MAX = 2**63 - 1


class UTCDateTime(TypeDecorator[datetime]):
    """A moment, always in UTC: SQLite forgets the zone, and PostgreSQL answers in the session's."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Put the moment in UTC: SQLite compares moments as text.

        :raises ValueError: if it has no zone.
        """
        if value is not None and value.tzinfo is None:
            raise ValueError("a moment without a zone")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Put the moment in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


#: SQLite counts up only a column that is an INTEGER by name.
BigInt = BigInteger().with_variant(Integer, "sqlite")
Moment = Annotated[datetime, mapped_column(UTCDateTime)]
Id = Annotated[int, mapped_column(BigInt, Identity(), primary_key=True)]


class Base(DeclarativeBase):
    """Base of the models. Constraints are named by rule, so that a migration can name what it drops."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


db = SQLAlchemy(model_class=Base)
Model = db.Model
migrate = Migrate()


@event.listens_for(Engine, "connect")
def _mind_foreign_keys(connection: Any, _record: Any) -> None:
    """Have SQLite delete what hangs on a row that is deleted, as PostgreSQL does unasked."""
    if isinstance(connection, sqlite3.Connection):
        connection.execute("PRAGMA foreign_keys=ON")


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)
