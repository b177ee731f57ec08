"""Keep files: in a folder, or in a bucket of any service that speaks S3.

STORAGE_URL is ``file:///folder``, right for one host, or ``s3://bucket/prefix?region=...&endpoint=...``
for several. Keys are made by the app, never taken from a client.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from flask import Flask, current_app
from flask_ops.native import beside_the_loop
from flask_ops.settings import SettingError, credential

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")
CHUNK_BYTES = 256 * 1024
#: A file half written for this long belonged to a process that is gone.
STALE_SECONDS = 24 * 3600
S3_CONNECT_TIMEOUT_SECONDS = 5
S3_READ_TIMEOUT_SECONDS = 20
_PARTS = ".parts"
#: Services other than Amazon's: buckets have no host names of their own there, and some refuse checksums
#: in trailers.
_ELSEWHERE = {
    "s3": {"addressing_style": "path"},
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
_EXAMPLES = "It is file:///folder or s3://bucket/prefix?region=...&endpoint=https://..."


class StorageError(Exception):
    """A file cannot be stored, read or deleted; the words name the setting and no secret."""


class NotStored(StorageError):
    """There is no such file."""


class Storage(Protocol):
    """Files by key. What is saved is seen whole or not at all."""

    def save(self, key: str, file: BinaryIO) -> int:
        """Store a file, in place of one there may be; return how many bytes it has.

        :param key: such as ``imports/<uuid>.csv``.
        :param file: is read to its end, a piece at a time.
        :raises StorageError: if it cannot be stored.
        """

    def open(self, key: str, offset: int = 0) -> BinaryIO:
        """Return a file to be read in pieces; it is to be closed.

        :param offset: bytes to leave out.
        :raises NotStored: if there is none.
        :raises StorageError: if it cannot be read, now or while it is read.
        """

    def delete(self, key: str) -> None:
        """Delete a file, if there is one.

        :raises StorageError: if it cannot be deleted.
        """

    def size(self, key: str) -> int:
        """Return how many bytes a file has.

        :raises NotStored: if there is none.
        :raises StorageError: if it cannot be asked.
        """


def init_app(app: Flask) -> None:
    """Give the app its storage, ``app.extensions["storage"]``; nothing is touched yet.

    :raises SettingError: if STORAGE_URL is none.
    """
    app.extensions["storage"] = from_url(app.config["STORAGE_URL"])


def current() -> Storage:
    """Return the current app's storage."""
    return current_app.extensions["storage"]


def from_url(url: str) -> Storage:
    """Return the storage at an address.

    :param url: as in STORAGE_URL.
    :raises SettingError: if it is not understood.
    """
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise SettingError(f"STORAGE_URL is not an address. {_EXAMPLES}") from None
    if parts.scheme == "file":
        if parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment:
            raise SettingError(f"STORAGE_URL names no folder by its whole path. {_EXAMPLES}")
        return FolderStorage(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        return _bucket(parts.netloc, parts.path, query)
    raise SettingError(f"STORAGE_URL begins with neither file:// nor s3://. {_EXAMPLES}")


def _bucket(bucket: str, path: str, query: dict[str, str]) -> S3Storage:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", bucket):
        raise SettingError(f"STORAGE_URL names no bucket; keys are credentials, not in it. {_EXAMPLES}")
    prefix = unquote(path).strip("/")
    if prefix and not KEY.fullmatch(prefix):
        raise SettingError("STORAGE_URL: the prefix holds more than letters, digits and . _ - /")
    if unknown := query.keys() - {"region", "endpoint"}:
        raise SettingError(f"STORAGE_URL: {', '.join(sorted(unknown))} is not known. {_EXAMPLES}")
    endpoint = query.get("endpoint")
    if endpoint and not re.fullmatch(r"https?://[^\s/@?#]+(/[^\s?#]*)?", endpoint):
        raise SettingError("STORAGE_URL: the endpoint is not an http or https address.")
    keys = {name: credential(name, None) for name in ("storage_access_key", "storage_secret_key")}
    if sum(map(bool, keys.values())) == 1:
        missing = next(name for name, value in keys.items() if not value)
        raise SettingError(
            f"Credential {missing!r} is missing: STORAGE_URL's bucket needs both keys or none."
        )
    options = {
        "region_name": query.get("region"),
        "endpoint_url": endpoint,
        # Without them boto3 looks where it always does: the host's role, its own files.
        "aws_access_key_id": keys["storage_access_key"],
        "aws_secret_access_key": keys["storage_secret_key"],
    }
    return S3Storage(bucket, f"{prefix}/" if prefix else "", options)


def _checked(key: str) -> str:
    if not KEY.fullmatch(key) or ".." in key:
        raise StorageError(f"STORAGE_URL: {key!r} is no key.")
    return key


class _Reading(io.RawIOBase):
    """A source of bytes whose errors are the storage's."""

    def __init__(self, source: Any, guard: Any) -> None:
        self._source = source
        self._guard = guard

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._guard():
            data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


def _buffered(source: Any, guard: Any) -> BinaryIO:
    return io.BufferedReader(_Reading(source, guard), CHUNK_BYTES)


class FolderStorage:
    """Files in a folder of this host."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, made when the first file is saved."""
        self._folder = folder

    def save(self, key: str, file: BinaryIO) -> int:
        """Store a file: written beside, synced to disk, then given its name."""
        path = self._folder / _checked(key)
        with self._guard(key, "stored"):
            parts = self._folder / _PARTS
            parts.mkdir(parents=True, exist_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._forget_stale(parts)
            with tempfile.NamedTemporaryFile(dir=parts, delete=False) as part:
                try:
                    while chunk := file.read(CHUNK_BYTES):
                        beside_the_loop(part.write, chunk)
                    size = part.tell()
                    part.flush()
                    beside_the_loop(os.fsync, part.fileno())
                    Path(part.name).replace(path)
                except BaseException:
                    Path(part.name).unlink(missing_ok=True)
                    raise
            _sync_folder(path.parent)
        return size

    def open(self, key: str, offset: int = 0) -> BinaryIO:
        """Return a file to be read."""
        with self._guard(key, "read"):
            file = (self._folder / _checked(key)).open("rb", buffering=0)
            file.seek(offset)
        return _buffered(file, lambda: self._guard(key, "read"))

    def delete(self, key: str) -> None:
        """Delete a file, if there is one."""
        with self._guard(key, "deleted"):
            (self._folder / _checked(key)).unlink(missing_ok=True)

    def size(self, key: str) -> int:
        """Return how many bytes a file has."""
        with self._guard(key, "read"):
            return (self._folder / _checked(key)).stat().st_size

    @staticmethod
    def _forget_stale(parts: Path) -> None:
        for part in parts.iterdir():
            with suppress(FileNotFoundError):  # another process may be doing the same
                if part.stat().st_mtime < time.time() - STALE_SECONDS:
                    part.unlink()

    @contextmanager
    def _guard(self, key: str, done: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # To store one it is the folder that is missing: that is no answer about a file.
            if isinstance(error, FileNotFoundError) and done == "read":
                raise NotStored(f"{key} is not in the storage (STORAGE_URL).") from error
            reason = error.strerror or type(error).__name__
            raise StorageError(f"{key} cannot be {done} in the folder of STORAGE_URL: {reason}.") from error


def _sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power cut (fsync(2))."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class _Counting:
    """A file that can only be read, so that it is read once, and counts what was.

    boto3 would close it, and would seek and read it again, if it could.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        return data


class S3Storage:
    """Files in a bucket.

    A large file goes up in parts and is seen when the last one is there. Parts of a process that was
    killed stay unseen until the bucket's rule for incomplete uploads deletes them; give it one.
    """

    def __init__(self, bucket: str, prefix: str, options: dict[str, Any]) -> None:
        """Use a bucket.

        :param prefix: what the names begin with: empty, or ending with a slash.
        :param options: for boto3's client.
        """
        self._bucket = bucket
        self._prefix = prefix
        self._options = options
        self._lock = threading.Lock()
        self._made: Any = None

    def save(self, key: str, file: BinaryIO) -> int:
        """Store a file."""
        from boto3.s3.transfer import TransferConfig

        counting = _Counting(file)
        # One part in memory at a time, and no thread that outlives the request.
        config = TransferConfig(use_threads=False)
        with self._guard(key, "stored"):
            self._client().upload_fileobj(counting, **self._place(key), Config=config)
        return counting.count

    def open(self, key: str, offset: int = 0) -> BinaryIO:
        """Return a file to be read."""
        span = {"Range": f"bytes={offset}-"} if offset else {}
        with self._guard(key, "read"):
            try:
                body = self._client().get_object(**self._place(key), **span)["Body"]
            except self._client().exceptions.ClientError as error:
                if error.response["Error"]["Code"] != "InvalidRange":
                    raise
                body = io.BytesIO()  # from its end on there is nothing
        return _buffered(body, lambda: self._guard(key, "read"))

    def delete(self, key: str) -> None:
        """Delete a file, if there is one."""
        with self._guard(key, "deleted"):
            self._client().delete_object(**self._place(key))

    def size(self, key: str) -> int:
        """Return how many bytes a file has."""
        with self._guard(key, "read"):
            return self._client().head_object(**self._place(key))["ContentLength"]

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + _checked(key)}

    def _client(self) -> Any:
        """Return this process's client, made at its first use: not before a server forks its workers."""
        with self._lock:
            if self._made is None:
                import boto3
                from botocore.config import Config

                config = Config(
                    connect_timeout=S3_CONNECT_TIMEOUT_SECONDS,
                    read_timeout=S3_READ_TIMEOUT_SECONDS,
                    retries={"mode": "standard", "max_attempts": 3},
                    **(_ELSEWHERE if self._options["endpoint_url"] else {}),
                )
                self._made = boto3.session.Session().client("s3", config=config, **self._options)
            return self._made

    @contextmanager
    def _guard(self, key: str, done: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code in ("NoSuchKey", "404", "NotFound"):
                raise NotStored(f"{key} is not in the storage (STORAGE_URL).") from error
            raise StorageError(f"{key} cannot be {done} in the bucket of STORAGE_URL: {code}.") from error
        except (BotoCoreError, Boto3Error, OSError) as error:
            name = type(error).__name__
            raise StorageError(f"{key} cannot be {done} in the bucket of STORAGE_URL: {name}.") from error
