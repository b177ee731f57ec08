"""Ready-made checks. Each imports what it needs when it is made, so an app pays only for its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .health import Check

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory
    from flask_sqlalchemy import SQLAlchemy
    from sqlalchemy import Connection, Engine


class PendingMigrations(Exception):
    """The database lacks a migration this release carries."""


def sqlalchemy(db: SQLAlchemy, *, name: str = "database", timeout_seconds: float = 1.0) -> Check:
    """Check that the database answers and has every migration of this release.

    It uses a connection of its own: a pool emptied by slow requests means busy, not broken, and an instance
    taken out for being busy hands its load to the next one. Count one connection a worker for it.

    A database that is *ahead* of this release is ready: during a deploy and after a rollback the older
    release serves on the newer schema.

    :param db: the Flask-SQLAlchemy extension; migrations are looked for where Flask-Migrate was told to look.
    :param name: the check's name.
    :param timeout_seconds: how long it may take.
    """
    import sqlalchemy as sa

    engines: dict[int, Engine] = {}
    migrations: dict[str, _Migrations] = {}

    def probe() -> None:
        from flask import current_app

        main = db.engine
        engine = engines.get(id(main)) or engines.setdefault(id(main), _own_engine(main))
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
            config = current_app.extensions.get("migrate")
            if config is not None:
                directory = config.migrate.directory
                known = migrations.get(directory) or migrations.setdefault(directory, _Migrations(config))
                known.require_applied(connection)

    return Check(name, probe, timeout_seconds)


def _own_engine(engine: Engine) -> Engine:
    import sqlalchemy as sa
    from sqlalchemy.pool import QueuePool

    # Only a QueuePool can be copied: another pool's connection may be the database itself (SQLite in memory).
    if not isinstance(engine.pool, QueuePool) or engine.url.get_backend_name() == "sqlite":
        return engine
    return sa.create_engine(engine.url, pool=engine.pool.recreate())


class _Migrations:
    """The migrations in the package, read once: files of a release do not change."""

    def __init__(self, config: Any) -> None:
        import sqlalchemy as sa
        from alembic.script import ScriptDirectory

        self._scripts: ScriptDirectory = ScriptDirectory.from_config(config.migrate.get_config())
        options = config.configure_args
        self._table = sa.table(
            options.get("version_table", "alembic_version"),
            sa.column("version_num"),
            schema=options.get("version_table_schema"),
        )
        self._known = {script.revision for script in self._scripts.walk_revisions()}
        self._complete: set[tuple[str, ...]] = set()

    def require_applied(self, connection: Connection) -> None:
        """Raise :class:`PendingMigrations` unless every known migration is applied."""
        current = self._current(connection)
        if current in self._complete:
            return
        pending = self._pending(current)
        if pending:
            raise PendingMigrations(f"{len(pending)} not applied: {', '.join(sorted(pending))}")
        self._complete.add(current)

    def _current(self, connection: Connection) -> tuple[str, ...]:
        # Not by Alembic's MigrationContext: it logs two lines each time it is made.
        import sqlalchemy as sa

        if not sa.inspect(connection).has_table(self._table.name, schema=self._table.schema):
            return ()
        return tuple(sorted(connection.scalars(sa.select(self._table.c.version_num))))

    def _pending(self, current: tuple[str, ...]) -> set[str]:
        if any(revision not in self._known for revision in current):
            return set()
        applied = (
            {script.revision for script in self._scripts.iterate_revisions(current, "base")}
            if current
            else set()
        )
        return self._known - applied
