"""Import a CSV file of some MiB that is made here, export it again, and say what that took, as JSON."""

from __future__ import annotations

import io
import json
import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from inbox import create_app
from inbox.messages import csv_file, exports, imports
from inbox.messages.inbox import Filters
from inbox.messages.models import ImportFile
from inbox.models import db
from sqlalchemy import text

MIB = 1024**2
BEGINS = datetime(2026, 1, 1, tzinfo=UTC)


def lines(size: int) -> Iterator[bytes]:
    """Yield a CSV file of at least so many bytes: messages like GitHub's, one a second."""
    yield csv_file.header()
    number = done = 0
    while done < size:
        commit = {"id": f"{number:040x}", "message": 'Mend the roof before the rain comes, and "not" after'}
        payload = {
            "ref": f"refs/heads/branch-{number}",
            "repository": {"full_name": "people/house"},
            "sender": {"login": "eve"},
            "commits": [commit] * 5,
        }
        moment = BEGINS + timedelta(seconds=number)
        line = csv_file.row("github", f"d-{number}", "push", moment, json.dumps(payload, indent=1))
        done += len(line)
        number += 1
        yield line


class Made(io.RawIOBase):
    """A file that is made while it is read."""

    def __init__(self, size: int) -> None:
        """Begin a file of at least so many bytes."""
        self._lines = lines(size)
        self._left = io.BytesIO()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:
        """Hand out what there is of a line."""
        data = self._left.read(len(buffer))
        if not data and (line := next(self._lines, b"")):
            self._left = io.BytesIO(line)
            data = self._left.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def resident_mib() -> float:
    """Return the most memory this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(size: int) -> dict[str, float]:
    """Measure.

    :param size: of the file, in MiB.
    """
    db.session.execute(text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
    db.session.commit()
    db.create_all()
    taken = imports.begin("bench.csv", io.BufferedReader(Made(size * MIB), MIB))
    import_id, total = taken.id, taken.bytes_total / MIB
    # SQLAlchemy and psycopg have learned all statements by then.
    imports.read(imports.begin("first.csv", io.BufferedReader(Made(MIB // 2), MIB)).id)
    before, began, pieces, answer = resident_mib(), time.monotonic(), 0, "reading"
    while answer == "reading":
        answer = imports.read(import_id)
        pieces += 1
    seconds, after = time.monotonic() - began, resident_mib()
    found = db.session.get(ImportFile, import_id, populate_existing=True)
    if answer != "done" or found.refused:
        raise SystemExit(f"import ended {answer}: {found.error}, {found.refused} lines refused")
    began = time.monotonic()
    exported = sum(len(piece) for piece in exports.stream(Filters())) / MIB
    return {
        "mib": total,
        "messages": found.imported + found.duplicates,
        "pieces": pieces,
        "import_mib_per_second": total / seconds,
        "export_mib_per_second": exported / (time.monotonic() - began),
        "rss_before_mib": before,
        "rss_import_mib": after,
        "rss_export_mib": resident_mib(),
    }


if __name__ == "__main__":
    with create_app().app_context():
        print(json.dumps(main(int(sys.argv[1]))))
