"""Turn the environment into Flask's configuration: for development, for testing, for production.

The README's table names every setting. Secrets are systemd credentials, never environment variables.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask_ops.broker import celery_url
from flask_ops.former_keys import former_keys
from flask_ops.settings import Reader, SettingError, choice, credential, integer, setting
from limits import parse
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from .messages import settings as domain

ENVIRONMENTS = ("production", "development", "testing")
#: For every request that does not say otherwise: forms and JSON of people and programs.
MAX_CONTENT_LENGTH = 512 * 1024
#: Redis answers in under a millisecond; who waits longer than this waits for a host that is gone.
#: Half a second would take for gone what starts a release on every core it has.
REDIS_TIMEOUT_SECONDS = 2.0


def load(instance_path: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the app's configuration.

    :param instance_path: where development keeps its database and files.
    :param overrides: wins over everything; what is given here is not asked of the environment.
    :raises Mistakes: if production lacks settings, or any is not understood; every one of them is named.
    """
    read = Reader()
    # A misspelt "prodution" would quietly serve with a throw-away key: it is refused.
    environment = read(choice, "APP_ENV", "development", allowed=ENVIRONMENTS)
    production = environment == "production"
    required = () if production else (None,)
    secret_key = overrides.get("SECRET_KEY")
    if secret_key is None:
        # A key made at start logs everybody out at each restart: fine for one developer, never for a service.
        secret_key = read(credential, "secret_key") if production else secrets.token_hex()
    given = overrides.get("SQLALCHEMY_DATABASE_URI") or read(setting, "DATABASE_URL", *required)
    url = read(_database_url, given, None)
    given = overrides["REDIS_URL"] if "REDIS_URL" in overrides else read(setting, "REDIS_URL", *required)
    redis_url = read(_redis_url, given, None)
    # A release is read-only: where files go is for whoever runs it to say.
    files = () if production else (f"file://{Path(instance_path) / 'files'}",)
    values: dict[str, Any] = {
        "TESTING": environment == "testing",
        # What this app's keys in Redis begin with: other apps, or another copy of this one, may use the same.
        "APP_NAME": overrides.get("APP_NAME") or setting("APP_NAME", "inbox"),
        **_cookies(production),
        "MAX_CONTENT_LENGTH": MAX_CONTENT_LENGTH,
        **domain.load(read),
        "SECRET_KEY": secret_key,
        "SQLALCHEMY_ENGINE_OPTIONS": _engine_options(read, url),
        "STORAGE_URL": overrides.get("STORAGE_URL") or read(setting, "STORAGE_URL", *files),
        "API_LIMIT": read(_limit, "API_RATE_LIMIT", "6000 per minute"),
        "SIGN_IN_LIMIT": read(_limit, "SIGN_IN_RATE_LIMIT", "10 per minute"),
        "BROKER_URL": read(_broker_url, redis_url, None),
        "TASK_SOFT_SHUTDOWN_SECONDS": read(integer, "TASK_SOFT_SHUTDOWN_SECONDS", 30),
    }
    read.finish()
    values |= _redis(redis_url, values["APP_NAME"]) | _tokens(secret_key, former_keys()) | overrides
    # After the overrides: the database's password has been put into it.
    return values | {"SQLALCHEMY_DATABASE_URI": url or _development_database(instance_path)}


def _cookies(production: bool) -> dict[str, Any]:
    return {
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Lax",
        "SESSION_COOKIE_SECURE": production,
        # The prefix makes browsers refuse the cookie unless it is Secure and for this host alone.
        "SESSION_COOKIE_NAME": "__Host-session" if production else "session",
        "PERMANENT_SESSION_LIFETIME": timedelta(hours=12),
        # A form that was open over lunch must still be taken; the session ends it.
        "WTF_CSRF_TIME_LIMIT": None,
    }


def _tokens(secret_key: str, former: list[str]) -> dict[str, Any]:
    key = _token_key(secret_key)
    return {
        "JWT_SECRET_KEY": key,
        # A token says which key signed it, so that one of before a change of the secret key is still taken.
        "JWT_KEY_ID": _key_id(key),
        "JWT_KEYS": {_key_id(each): each for each in [*map(_token_key, former), key]},
        "JWT_ALGORITHM": "HS256",
        "JWT_TOKEN_LOCATION": ["headers"],
        "JWT_ACCESS_TOKEN_EXPIRES": timedelta(minutes=15),
        "JWT_REFRESH_TOKEN_EXPIRES": timedelta(days=14),
        "JWT_ENCODE_ISSUER": "inbox",
        "JWT_DECODE_ISSUER": "inbox",
    }


def _token_key(secret_key: str) -> str:
    """Return a key of its own: a token can never pass for a session cookie, nor the other way round."""
    return hashlib.blake2b(b"jwt", key=secret_key.encode()[:64]).hexdigest()


def _key_id(key: str) -> str:
    """Return a name for a key that gives nothing of it away."""
    return hashlib.blake2b(b"id", key=key.encode()[:64], digest_size=6).hexdigest()


def _limit(name: str, default: str) -> str:
    """Return how often something may be done, such as ``10 per minute``.

    :raises SettingError: if it is not understood.
    """
    text = setting(name, default)
    try:
        parse(text)
    except ValueError:
        raise SettingError(f"{name}={text!r} is no limit. Write it as '600 per minute'.") from None
    return text


def _redis_url(text: str | None, default: None) -> str | None:
    """Return the address of Redis.

    :raises SettingError: if it is none; without the value, which may hold a password.
    """
    if text is None:
        return default
    try:
        Redis.from_url(text)
    except ValueError:
        raise SettingError(
            "REDIS_URL is not an address of Redis: redis://host:6379/0, or unix:///run/redis/redis.sock?db=0"
        ) from None
    return text


def _redis(url: str | None, prefix: str) -> dict[str, Any]:
    """Configure what lives in Redis: tokens used up, and limits.

    Without Redis both live in each process, right for one developer.
    """
    limits = {"RATELIMIT_KEY_PREFIX": prefix, "RATELIMIT_STRATEGY": "sliding-window-counter"}
    if not url:
        return {"REDIS_URL": None, "REDIS_CLIENT": None, "RATELIMIT_STORAGE_URI": "memory://", **limits}
    password = credential("redis_password", None)
    options: dict[str, Any] = {
        "socket_timeout": REDIS_TIMEOUT_SECONDS,
        "socket_connect_timeout": REDIS_TIMEOUT_SECONDS,
        # A connection that a restart of Redis has closed is made anew. A server that is silent is not asked
        # again: by default it would be asked ten times more, with pauses that grow.
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        **({"password": password} if password and urlsplit(url).password is None else {}),
    }
    return {
        "REDIS_URL": url,
        "REDIS_CLIENT": Redis.from_url(url, **options),
        "RATELIMIT_STORAGE_URI": url.replace("unix://", "redis+unix://", 1),
        "RATELIMIT_STORAGE_OPTIONS": options,
        **limits,
    }


def _broker_url(redis_url: str | None, default: None) -> str | None:
    """Return where Celery's queues are: BROKER_URL, otherwise Redis, otherwise nowhere."""
    url = setting("BROKER_URL", None) or redis_url
    return celery_url(url) if url else default


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
