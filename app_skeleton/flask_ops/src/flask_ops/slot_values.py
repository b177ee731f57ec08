"""Write metrics to the files of a slot, in prometheus_client's own format and in a third of its time.

Its own class for this takes a lock of the standard library (gevent's, once patched), asks for the process id,
looks the key up twice and packs two numbers, three times for each request. Here a value knows its place in
the shared memory and adds to it. The memory alone holds the value: two metrics of one name, such as those of
an app with an exporter of its own, add to one series instead of overwriting each other.
"""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Any, ClassVar

from prometheus_client.mmap_dict import mmap_key

from . import metric_files
from .native import original

_INITIAL_BYTES = 1 << 16
_DOUBLE = 8
_integer = struct.Struct("i")


class _File:
    """One file of values.

    :param path: the file; made if missing, and made anew if it is broken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            entries = metric_files.read_file(path)
        except FileNotFoundError:
            entries = []
        except metric_files.FileBroken:
            path.unlink(missing_ok=True)
            entries = []
        self._places: dict[bytes, int] = {}
        self._used = metric_files.HEAD
        for key, _, _ in entries:
            self._place(key)
        size = path.stat().st_size if entries else 0
        self._map(max(_INITIAL_BYTES, size + -size % _DOUBLE))
        self._memory[:4] = _integer.pack(self._used)

    def _map(self, capacity: int) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.ftruncate(descriptor, capacity)
            # Values that hold the memory mapped before go on writing to the same file.
            self._memory = mmap.mmap(descriptor, capacity)
        finally:
            os.close(descriptor)
        self._doubles = memoryview(self._memory).cast("d")

    def _place(self, key: bytes) -> int:
        position = metric_files.value_position(self._used, len(key))
        self._used = position + 2 * _DOUBLE
        self._places[key] = position
        return position

    def find(self, key: bytes) -> tuple[memoryview, int]:
        """Return the memory and the index in it of a key's value; its time stamp follows."""
        position = self._places.get(key)
        if position is None:
            begin = self._used
            position = self._place(key)
            while self._used > len(self._memory):
                self._map(2 * len(self._memory))
            padding = b" " * (position - begin - 4 - len(key))
            self._memory[begin : self._used] = _integer.pack(len(key)) + key + padding + bytes(2 * _DOUBLE)
            # Last, or a reader would see half an entry.
            self._memory[:4] = _integer.pack(self._used)
        return self._doubles, position // _DOUBLE


class Store:
    """The values of one process and the files they are in.

    :param directory: where the files go.
    :param slot: whose files they are.
    """

    def __init__(self, directory: str, slot: str) -> None:
        """Open nothing yet."""
        self._directory = Path(directory)
        self._slot = slot
        self._files: dict[str, _File] = {}
        self._values: list[SlotValue] = []
        # The interpreter's own: held for a microsecond and never over a switch, also by threads beside
        # gevent's.
        self.lock = original("_thread", "allocate_lock")()

    def move(self, slot: str) -> None:
        """Write to another slot's files from now on, continuing what they hold."""
        with self.lock:
            self._slot = slot
            self._files = {}
            for value in self._values:
                value.bind()

    def add(self, value: SlotValue) -> None:
        """Give a new value its place."""
        with self.lock:
            value.bind()
            self._values.append(value)

    def find(self, prefix: str, key: bytes) -> tuple[memoryview, int]:
        """Return the memory and the index in it of a value; the lock must be held."""
        file = self._files.get(prefix)
        if file is None:
            file = self._files[prefix] = _File(self._directory / f"{prefix}_{self._slot}.db")
        return file.find(key)


class SlotValue:
    """A number in shared memory; what prometheus_client calls a value class."""

    _multiprocess = True
    _store: ClassVar[Store]

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Any,
        labelvalues: Any,
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        """Take a place, and the value that is there."""
        self._prefix = f"{typ}_{multiprocess_mode}" if typ == "gauge" else typ
        self._key = mmap_key(metric_name, name, labelnames, labelvalues, help_text).encode()
        self._lock = self._store.lock
        self._store.add(self)

    def bind(self) -> None:
        """Find the place in the current slot's file."""
        self._doubles, self._index = self._store.find(self._prefix, self._key)

    def inc(self, amount: float) -> None:
        """Add to the value."""
        with self._lock:
            self._doubles[self._index] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Replace the value."""
        with self._lock:
            self._doubles[self._index] = value
            self._doubles[self._index + 1] = timestamp or 0.0

    def get(self) -> float:
        """Return the value."""
        return self._doubles[self._index]

    def set_exemplar(self, exemplar: Any) -> None:
        """Drop an exemplar: the files have no room for it."""

    def get_exemplar(self) -> None:
        """Return None."""


def value_class(store: Store) -> type[SlotValue]:
    """Return the class of values that a store keeps."""
    return type("StoredValue", (SlotValue,), {"_store": store})
