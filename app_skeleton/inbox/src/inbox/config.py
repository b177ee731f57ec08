"""Turn the environment into Flask's configuration."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flask_ops.settings import Reader, SettingError, choice, credential, integer, setting
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

#: Above the largest message (see messages.py) even when every character of it is escaped as six.
MAX_CONTENT_LENGTH = 512 * 1024


def load(instance_path: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the app's configuration.

    :param instance_path: where the development database goes.
    :param overrides: wins over everything; a database URL or key given here is not asked of the environment.
    :raises Mistakes: if production lacks settings, or any is not understood; every one of them is named.
    """
    read = Reader()
    # A misspelt "prodution" would quietly serve with a throw-away key: it is refused.
    environment = read(choice, "APP_ENV", "development", allowed=("production", "development"))
    production = environment == "production"
    values: dict[str, Any] = {
        "MAX_CONTENT_LENGTH": MAX_CONTENT_LENGTH,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_SECURE": production,
        # The prefix makes browsers refuse the cookie unless it is Secure and for this host alone.
        "SESSION_COOKIE_NAME": "__Host-session" if production else "session",
        **overrides,
    }
    if "SECRET_KEY" not in values:
        # A key made at start logs everybody out at each restart: fine for one developer, never for a service.
        values["SECRET_KEY"] = read(credential, "secret_key") if production else secrets.token_hex()
    text = values.get("SQLALCHEMY_DATABASE_URI") or read(
        setting, "DATABASE_URL", *([] if production else [None])
    )
    url = read(_database_url, text, None)
    options = _engine_options(read, url)
    read.finish()
    values["SQLALCHEMY_DATABASE_URI"] = url or _development_database(instance_path)
    values.setdefault("SQLALCHEMY_ENGINE_OPTIONS", options)
    return values


def _development_database(instance_path: str) -> URL:
    folder = Path(instance_path)
    folder.mkdir(parents=True, exist_ok=True)
    return URL.create("sqlite", database=str(folder / "inbox.sqlite"))


def _database_url(text: str | URL | None, default: None) -> URL | None:
    if text is None:
        return default
    try:
        url = make_url(text)
    except ArgumentError:
        # Without the value: a URL may hold a password.
        raise SettingError(
            "DATABASE_URL is not a database URL. Over a unix socket it is postgresql+psycopg:///name?host=/run/postgresql"
        ) from None
    password = credential("database_password", None)
    return url.set(password=password) if password and url.password is None else url


def _engine_options(read: Reader, url: URL | None) -> dict[str, Any]:
    if url is None or url.get_backend_name() != "postgresql":
        return {}
    statement_timeout = read(integer, "DATABASE_STATEMENT_TIMEOUT_SECONDS", 20)
    return {
        "pool_size": read(integer, "DATABASE_POOL_SIZE", 5, minimum=1),
        # Connections are counted over all workers and two releases at once: none beyond the pool.
        "max_overflow": 0,
        # A request that finds the pool empty is told so (503) well before nginx gives up on it.
        "pool_timeout": read(integer, "DATABASE_POOL_TIMEOUT_SECONDS", 5, minimum=1),
        "pool_pre_ping": True,
        "connect_args": {
            "application_name": setting("FLASK_OPS_SERVICE", "inbox"),
            "connect_timeout": 5,
            # A peer that vanished without a word is noticed in seconds; the kernel's default is a quarter of
            # an hour.
            "tcp_user_timeout": 10_000,
            "options": f"-c statement_timeout={statement_timeout * 1000}",
        },
    }
