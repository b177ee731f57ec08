"""Read logs that are files, with what logrotate has made of them."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

BLOCK = 1 << 20
# So PostgreSQL goes on: with a tab where a text has several lines, and with what belongs to the line before.
GOES_ON = rb"\t|\d{4}-\d\d-\d\d \S+ UTC \[\d+\] (?:\S+ )?(?:DETAIL|HINT|QUERY|CONTEXT|STATEMENT):  "
END = re.compile(rb"\n(?!" + GOES_ON + rb")")


def files(folder: Path, pattern: str, since: float) -> list[Path]:
    """Return the files of a log that may have something since then, the newest first."""
    dated = []
    for path in folder.glob(pattern):
        # One that is rotated away meanwhile comes under its next name.
        try:
            dated.append((path.stat().st_mtime, path))
        except FileNotFoundError:
            continue
    # Also of what is compressed: gzip keeps the time.
    return [path for changed, path in sorted(dated, reverse=True) if changed >= since]


def forward(path: Path, needle: bytes) -> Iterator[str]:
    """Yield the records of a compressed file with a text in them, in their order.

    :raises OSError: when it cannot be read.
    """
    with gzip.open(path) as file:
        record = b""
        for line in file:
            if record and not re.match(GOES_ON, line):
                if needle in record:
                    yield _decoded(record)
                record = b""
            record += line
        if record and needle in record:
            yield _decoded(record)


def backward(path: Path, needle: bytes) -> Iterator[str]:
    """Yield the records of a file with a text in them, the last one first.

    :raises OSError: when it cannot be read.
    """
    with path.open("rb") as file:
        for records in _blocks(file):
            # Most blocks have nothing of it, and are not even taken apart.
            if needle in records:
                found = (record for record in reversed(END.split(records)) if record and needle in record)
                yield from map(_decoded, found)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield whole records in pieces of about a block, the last piece first."""
    place, rest = file.seek(0, 2), b""
    while place > 0:
        size = min(BLOCK, place)
        place -= size
        file.seek(place)
        block = file.read(size) + rest
        # Its first record may begin in the block before.
        cut = END.search(block) if place else None
        begin = cut.end() if cut else len(block) if place else 0
        rest = block[:begin]
        yield block[begin:]


def _decoded(record: bytes) -> str:
    return record.decode(errors="replace").rstrip("\n")
