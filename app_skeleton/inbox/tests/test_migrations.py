"""Every revision, up and down, on SQLite and on PostgreSQL, with the release before it still at work."""

from datetime import date, timedelta

import pytest
import sqlalchemy as sa
from alembic.script import ScriptDirectory
from flask_ops.expanding import contracts
from inbox import create_app
from inbox.models import db


@pytest.fixture(params=["sqlite", "postgresql"])
def app(request, tmp_path):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/inbox.sqlite"
    else:
        url = request.getfixturevalue("postgresql_database")
    app = create_app({"SQLALCHEMY_DATABASE_URI": url, "STORAGE_URL": f"file://{tmp_path}/files"})
    yield app
    with app.app_context():
        db.engine.dispose()


def revisions(app):
    """Return the revisions, oldest first."""
    scripts = ScriptDirectory(app.extensions["migrate"].directory)
    return [script.revision for script in reversed(list(scripts.walk_revisions()))]


def contracting(app):
    scripts = ScriptDirectory(app.extensions["migrate"].directory)
    return {script.revision for script in scripts.walk_revisions() if contracts(script)}


def migrate(app, *arguments):
    done = app.test_cli_runner().invoke(args=["db", *arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    return done


def reflect(app):
    with app.app_context():
        metadata = sa.MetaData()
        metadata.reflect(db.engine)
        # A table comes after those it refers to.
        return {table.name: table for table in metadata.sorted_tables if table.name != "alembic_version"}


def test_there_is_one_head_and_the_models_are_what_it_makes(app):
    migrate(app, "upgrade")
    migrate(app, "check")


def test_every_revision_goes_up_and_down_and_up_again(app):
    for revision in revisions(app):
        before = {name: set(table.columns.keys()) for name, table in reflect(app).items()}
        migrate(app, "upgrade", revision)
        migrate(app, "downgrade", "--", "-1")
        assert {name: set(table.columns.keys()) for name, table in reflect(app).items()} == before, revision
        migrate(app, "upgrade", revision)
    migrate(app, "downgrade", "base")
    assert reflect(app) == {}


def value(column, number):
    """Return something a release might have written into a column."""
    kind = column.type.python_type
    if kind is str:
        return f"value {number}"[: getattr(column.type, "length", None)]
    return {int: number, date: date(2026, 1, 1) + timedelta(number)}.get(kind) or sa.func.current_timestamp()


def written(table, number):
    """Return a row as a release writes it that knows a table as it is: with every column.

    What it refers to is the row of the same number.
    """
    return {column.name: value(column, number) for column in table.columns}


def test_release_before_reads_and_writes_on_every_newer_schema(app):
    """Expand, then contract: what the release before a revision does must work after that revision."""
    for number, revision in enumerate(revisions(app), start=1):
        if revision in contracting(app):
            # It is applied when that release is gone for good.
            migrate(app, "upgrade", revision)
            continue
        old = reflect(app)
        with app.app_context(), db.engine.begin() as connection:
            for table in old.values():
                connection.execute(table.insert().values(written(table, 2 * number)))
            kept = {name: connection.execute(table.select()).all() for name, table in old.items()}
        migrate(app, "upgrade", revision)
        with app.app_context(), db.engine.begin() as connection:
            for name, table in old.items():
                assert connection.execute(table.select()).all() == kept[name], (
                    f"{revision} changes rows of {name}"
                )
                connection.execute(table.insert().values(written(table, 2 * number + 1)))


def test_migration_that_waits_for_a_table_gives_up_and_changes_nothing(app, monkeypatch):
    if app.config["SQLALCHEMY_DATABASE_URI"].get_backend_name() == "sqlite":
        pytest.skip("SQLite has no lock to wait for")
    migrate(app, "upgrade")
    monkeypatch.setenv("FLASK_OPS_MIGRATE_LOCK_TIMEOUT_SECONDS", "1")
    with app.app_context():
        engine = sa.create_engine(db.engine.url)
    tables = {name: set(table.columns.keys()) for name, table in reflect(app).items()}
    with engine.connect() as connection:
        for table in reflect(app).values():
            connection.execute(table.select())
        done = app.test_cli_runner().invoke(args=["db", "downgrade", "--", "-1"])
    assert "lock timeout" in str(done.exception)
    assert {name: set(table.columns.keys()) for name, table in reflect(app).items()} == tables
    engine.dispose()
