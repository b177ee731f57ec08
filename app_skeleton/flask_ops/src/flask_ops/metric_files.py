"""Read the files in which prometheus_client keeps a process' metrics.

The format is described in prometheus_client's ``mmap_dict.MmapedDict``: a four byte count of the bytes used,
four bytes of padding, then entries: the key's length, the key (JSON of metric, sample, labels and help),
spaces up to a multiple of eight, the value and a time stamp.
"""

from __future__ import annotations

import struct
from pathlib import Path

_integer = struct.Struct("i").unpack_from
_two_doubles = struct.Struct("dd").unpack_from
_FIRST_BLOCK = 4096
HEAD = 8

Entry = tuple[bytes, float, float]


class FileBroken(Exception):
    """A file of metrics does not follow its format."""


def read_file(path: str | Path) -> list[Entry]:
    """Return a file's entries: key, value, time stamp. A file that is just being made has none.

    Written to by its owner meanwhile, it is right all the same: an entry is complete before it is counted.

    :param path: the file.
    :raises FileNotFoundError: if it has gone.
    :raises FileBroken: if it is cut short or no such file.
    """
    with open(path, "rb") as file:  # noqa: PTH123 - a third of the time of Path.open()
        data = file.read(_FIRST_BLOCK)
        if not data:
            return []
        if len(data) < HEAD:
            raise FileBroken(f"{len(data)} bytes long")
        (used,) = _integer(data)
        if used > len(data):
            data += file.read(used - len(data))
    if not (used == 0 or HEAD <= used <= len(data)):
        raise FileBroken(f"{used} bytes used of {len(data)}")
    return _entries(data, used)


def _entries(data: bytes, used: int) -> list[Entry]:
    entries = []
    position = HEAD
    while position < used:
        (length,) = _integer(data, position)
        start = position + 4
        value = value_position(position, length)
        position = value + 16
        if length <= 0 or position > used:
            raise FileBroken(f"an entry of {length} bytes at byte {start} of {used}")
        entries.append((data[start : start + length], *_two_doubles(data, value)))
    return entries


def value_position(entry: int, length: int) -> int:
    """Return where an entry's value is.

    :param entry: where the entry begins.
    :param length: how many bytes its key has.
    """
    return entry + 4 + length + 8 - (length + 4) % 8


def require_usable(path: str | Path) -> None:
    """Raise unless prometheus_client can open a file and continue it.

    :raises FileBroken: if it cannot.
    """
    try:
        for key, _, _ in read_file(path):
            key.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileBroken(str(error)) from error
