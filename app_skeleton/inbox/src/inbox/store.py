"""Remember for a while what is not worth a table: which tokens are used up, which are revoked, who guesses.

In Redis, shared by every worker on every host. Without REDIS_URL, while developing, in this process alone.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

from flask import Flask, current_app
from redis import Redis, RedisError


class StoreUnavailable(Exception):
    """The store does not answer, and what hangs on it cannot be decided."""


class Store(Protocol):
    """Keys that end by themselves."""

    def add(self, key: str, seconds: float) -> bool:
        """Remember a key; return whether it was not there before.

        :param key: any text.
        :param seconds: for how long.
        :raises StoreUnavailable: if the store does not answer.
        """

    def keep(self, key: str, seconds: float) -> None:
        """Remember a key from now on, whether it was there before or not.

        :param key: any text.
        :param seconds: for how long.
        :raises StoreUnavailable: if the store does not answer.
        """

    def has_any(self, *keys: str) -> bool:
        """Return whether one of the keys is remembered, in one round trip.

        :raises StoreUnavailable: if the store does not answer.
        """

    def count(self, key: str, seconds: float, by: int = 1) -> tuple[int, float]:
        """Add to a counter; return where it stands, and in how many seconds it ends.

        :param key: any text.
        :param seconds: how long it counts, from the first time on.
        :param by: how much to add; negative takes back.
        :raises StoreUnavailable: if the store does not answer.
        """


class MemoryStore:
    """A store for one process."""

    def __init__(self) -> None:
        """Start empty."""
        #: What each key counts, and until when.
        self._kept: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def add(self, key: str, seconds: float) -> bool:
        """Remember a key; return whether it was not there before."""
        return self.count(key, seconds)[0] == 1

    def keep(self, key: str, seconds: float) -> None:
        """Remember a key from now on."""
        with self._lock:
            self._kept[key] = 1, time.monotonic() + seconds

    def has_any(self, *keys: str) -> bool:
        """Return whether one of the keys is remembered."""
        now = time.monotonic()
        return any(self._kept.get(key, (0, 0.0))[1] > now for key in keys)

    def count(self, key: str, seconds: float, by: int = 1) -> tuple[int, float]:
        """Add to a counter; return where it stands, and in how many seconds it ends."""
        now = time.monotonic()
        with self._lock:
            self._kept = {name: kept for name, kept in self._kept.items() if kept[1] > now}
            number, until = self._kept.get(key, (0, now + seconds))
            self._kept[key] = number + by, until
            return number + by, until - now


class RedisStore:
    """A store for every worker on every host."""

    def __init__(self, client: Redis, prefix: str) -> None:
        """Use a client.

        :param prefix: what the keys begin with: other apps may use the same server.
        """
        self._client = client
        self._prefix = prefix

    def add(self, key: str, seconds: float) -> bool:
        """Remember a key; return whether it was not there before."""
        try:
            return bool(self._client.set(self._prefix + key, 1, nx=True, px=_milliseconds(seconds)))
        except RedisError as error:
            raise StoreUnavailable from error

    def keep(self, key: str, seconds: float) -> None:
        """Remember a key from now on."""
        try:
            self._client.set(self._prefix + key, 1, px=_milliseconds(seconds))
        except RedisError as error:
            raise StoreUnavailable from error

    def has_any(self, *keys: str) -> bool:
        """Return whether one of the keys is remembered, in one round trip."""
        try:
            return bool(self._client.exists(*(self._prefix + key for key in keys)))
        except RedisError as error:
            raise StoreUnavailable from error

    def count(self, key: str, seconds: float, by: int = 1) -> tuple[int, float]:
        """Add to a counter; return where it stands, and in how many seconds it ends, in one round trip."""
        try:
            with self._client.pipeline() as pipeline:
                name = self._prefix + key
                pipeline.incrby(name, by).pexpire(name, _milliseconds(seconds), nx=True).pttl(name)
                number, _, left = pipeline.execute()
        except RedisError as error:
            raise StoreUnavailable from error
        return number, max(0, left) / 1000


def _milliseconds(seconds: float) -> int:
    return max(1, int(seconds * 1000))


def init_app(app: Flask) -> None:
    """Give the app its store, ``app.extensions["store"]``."""
    client = app.config["REDIS_CLIENT"]
    app.extensions["store"] = RedisStore(client, f"{app.config['APP_NAME']}:") if client else MemoryStore()


def current() -> Store:
    """Return the current app's store."""
    return current_app.extensions["store"]
