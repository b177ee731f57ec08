"""Tell which of a release's migrations the database lacks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .expanding import contracts

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection


class PendingMigrations(Exception):
    """The database lacks a migration this release carries."""


class Migrations:
    """The migrations in the package, read once: files of a release do not change."""

    def __init__(self, config: Any) -> None:
        """Read what Flask-Migrate was told.

        :param config: ``app.extensions["migrate"]``.
        :raises FileNotFoundError: if there is no folder where it says.
        """
        import sqlalchemy as sa
        from alembic.script import ScriptDirectory

        self._scripts: ScriptDirectory = ScriptDirectory.from_config(
            config.migrate.get_config(_folder(config))
        )
        options = config.configure_args
        self._table = sa.table(
            options.get("version_table", "alembic_version"),
            sa.column("version_num"),
            schema=options.get("version_table_schema"),
        )
        scripts = list(self._scripts.walk_revisions())
        self._known = {script.revision for script in scripts}
        self._contracting = {script.revision for script in scripts if contracts(script)}
        self._complete: set[tuple[str, ...]] = set()

    def require_applied(self, connection: Connection) -> tuple[str, ...]:
        """Look at what the database says of itself, and return the revisions it is at.

        :param connection: one to the database the migrations are for.
        :raises PendingMigrations: unless every known migration that expands is applied. One that contracts
            comes later, when no release needs what it takes away.
        """
        current = self._current(connection)
        if current in self._complete:
            return current
        pending = self._pending(current)
        if pending:
            raise PendingMigrations(f"{len(pending)} not applied: {', '.join(sorted(pending))}")
        self._complete.add(current)
        return current

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
        return self._known - applied - self._contracting


def _folder(config: Any) -> str:
    """Return where the migrations are: Flask-Migrate takes its setting from the working directory.

    An installed app's are in its package, and no server starts there.
    """
    from flask import current_app

    named = Path(config.migrate.directory)
    found = [place for place in (named, Path(current_app.root_path) / named) if place.is_dir()]
    if not found:
        raise FileNotFoundError(f"no folder of migrations {named}, nor below {current_app.root_path}")
    return str(found[0])
