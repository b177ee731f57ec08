"""Ready-made checks. Each imports what it needs when it is made, so an app pays only for its own."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from . import database
from .health import Check, Found
from .migrations import Migrations
from .native import beside_the_loop
from .settings import credential

if TYPE_CHECKING:
    from flask_sqlalchemy import SQLAlchemy
    from sqlalchemy import Engine


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
    migrations: dict[str, Migrations] = {}

    def probe() -> Found | None:
        from flask import current_app

        main = db.engine
        engine = engines.get(id(main)) or engines.setdefault(id(main), _own_engine(main))
        with engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))
            config = current_app.extensions.get("migrate")
            if config is None:
                return None
            directory = config.migrate.directory
            known = migrations.get(directory) or migrations.setdefault(directory, Migrations(config))
            return Found(heads=list(known.require_applied(connection)))

    return Check(name, probe, timeout_seconds)


def postgresql(url: str, *, name: str = "postgresql", timeout_seconds: float = 1.0) -> Check:
    """Check that a PostgreSQL server answers a query.

    It keeps one connection a worker, and makes another when that one has gone: the server is asked about
    once a second, and a connection each time would cost it a process.

    :param url: where it is, as SQLAlchemy or libpq writes it. A password comes from the credential
        ``database_password``.
    :param name: the check's name.
    :param timeout_seconds: how long it may take.
    """
    import psycopg

    scheme, _, rest = url.partition("://")
    address = f"{scheme.partition('+')[0]}://{rest}"
    idle: list[psycopg.Connection] = []

    def connect() -> psycopg.Connection:
        return database.connect(address, "flask_ops-readiness")

    def probe() -> None:
        # Taken out while it is used: a run that hangs keeps it, and the next one opens its own.
        connection = idle.pop() if idle else connect()
        try:
            connection.execute("SELECT 1")
        except psycopg.OperationalError:
            connection.close()
            connection = connect()
            connection.execute("SELECT 1")
        if idle:
            connection.close()
        else:
            idle.append(connection)

    return Check(name, probe, timeout_seconds)


def redis(url: str, *, name: str = "redis", timeout_seconds: float = 1.0) -> Check:
    """Check that a Redis server answers PING.

    :param url: where it is, as redis-py writes it. A password comes from the credential
        ``redis_password``.
    :param name: the check's name.
    :param timeout_seconds: how long it may take.
    """
    from redis import Redis

    clients: list[Redis] = []

    def probe() -> None:
        if not clients:
            password = credential("redis_password", None)
            secret = {"password": password} if password else {}
            limits = {"socket_timeout": timeout_seconds, "socket_connect_timeout": timeout_seconds}
            clients.append(Redis.from_url(url, **limits, **secret))
        clients[0].ping()

    return Check(name, probe, timeout_seconds)


def http(url: str, *, name: str = "http", timeout_seconds: float = 1.0) -> Check:
    """Check that another service answers GET with a status below 400.

    Think before making this a readiness check: while that service is away, this one takes no traffic at all.

    :param url: what to ask for.
    :param name: the check's name.
    :param timeout_seconds: how long it may take.
    """

    def probe() -> None:
        request = urllib.request.Request(url, headers={"User-Agent": "flask_ops-readiness"})  # noqa: S310 - an operator's own setting
        with urllib.request.urlopen(request, timeout=timeout_seconds) as answer:  # noqa: S310
            answer.read(1)

    return Check(name, probe, timeout_seconds)


class NoRoom(Exception):
    """A file system is full, nearly full, or cannot be written to."""


def disk(
    path: str | None = None,
    *,
    minimum_free_percent: float = 5,
    name: str = "disk",
    timeout_seconds: float = 1.0,
) -> Check:
    """Check that a file system can be written to and has room and inodes left.

    :param path: a file or folder on it; by default the app's own folder, ``$HOME``.
    :param minimum_free_percent: how much of its room, and of its inodes, must be free.
    :param name: the check's name.
    :param timeout_seconds: how long it may take: a network file system can hang.
    """
    folder = path or str(Path.home())

    def probe() -> None:
        state = beside_the_loop(os.statvfs, folder)
        if state.f_flag & os.ST_RDONLY:
            raise NoRoom(f"{folder} is mounted read-only")
        kinds = {"room": (state.f_bavail, state.f_blocks), "inodes": (state.f_favail, state.f_files)}
        for kind, (free, total) in kinds.items():
            if total and 100 * free / total < minimum_free_percent:
                raise NoRoom(f"{100 * free / total:.1f} % of {kind} free at {folder}")

    return Check(name, probe, timeout_seconds)


def _own_engine(engine: Engine) -> Engine:
    import sqlalchemy as sa
    from sqlalchemy.pool import QueuePool

    # Only a QueuePool can be copied: another pool's connection may be the database itself (SQLite in memory).
    if not isinstance(engine.pool, QueuePool) or engine.url.get_backend_name() == "sqlite":
        return engine
    return sa.create_engine(engine.url, pool=engine.pool.recreate())
