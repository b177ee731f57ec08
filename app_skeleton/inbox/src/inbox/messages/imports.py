"""Read messages from a CSV file, a piece at a time, however large it is and whatever becomes of the worker.

Each batch of lines is one transaction: the messages, their tally, the lines refused and the place in the
file. So a worker killed anywhere is followed by one that goes on where the last commit was, and nothing
is counted twice. Whoever reads holds a claim; one that was given up for lost and lives after all finds
another's, and writes nothing.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, BinaryIO
from uuid import uuid4

import structlog
from flask import current_app
from sqlalchemy import insert, or_, select, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from .. import storage
from ..models import db, now
from . import csv_file, inbox, sources, summaries
from .models import ImportFile, ImportProblem, Message

#: Then another task goes on: a worker that is told to stop has not long to wait.
PIECE_SECONDS = 20.0
#: From one commit to the next, with a storage that is slow.
LEASE_SECONDS = 120
#: How soon to hand out again what was handed out, or could not be read.
LOOK_SECONDS = 60
DUE_MAX = 100
BATCH_ROWS = 500
#: Of bodies: five hundred of the largest would be half a gigabyte.
BATCH_BYTES = 4 * 1024 * 1024
#: Lines refused of which the reason is kept; the others are counted.
PROBLEMS_MAX = 10_000
NAME_MAX_CHARACTERS = 255
_UNFINISHED = ("waiting", "reading")

log = structlog.get_logger(__name__)


class _Lost(Exception):
    """The claim is somebody else's by now."""


def begin(name: str, file: BinaryIO) -> ImportFile:
    """Take a file to be read later: by a task that is sent now, or by beat soon.

    :param name: what whoever handed it in calls it.
    :param file: is read to its end, a piece at a time.
    :raises inbox.storage.StorageError: if it cannot be stored.
    """
    key = f"imports/{uuid4().hex}.csv"
    size = storage.current().save(key, file)
    taken = ImportFile(
        name=_shown(name),
        storage_key=key,
        bytes_total=size,
        created_at=now(),
        claimed_until=now() + timedelta(seconds=inbox.FIRST_LOOK_SECONDS),
    )
    try:
        db.session.add(taken)
        db.session.commit()
    except BaseException:
        # Nobody would know of it.
        storage.current().delete(key)
        raise
    return taken


def _shown(name: str) -> str:
    """Return a name without folders and without what a page or a log cannot show."""
    last = re.split(r"[/\\]", name)[-1]
    return re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", "", last)[:NAME_MAX_CHARACTERS] or "file.csv"


def read(import_id: int) -> str:
    """Read a piece; return ``reading`` if there is more, ``done``, ``failed``, or ``skipped``.

    :param import_id: the file's row.
    :raises OperationalError: if the database goes away.
    """
    file = _claim(import_id)
    if file is None:
        return "skipped"
    try:
        return _read_piece(file)
    except _Lost:
        log.warning("import was given up for lost", import_id=import_id)
        return "skipped"
    except csv_file.NotOurs as error:
        return _fail(file, str(error))
    except storage.NotStored:
        return _fail(file, "The stored file is gone.")
    except storage.StorageError as error:
        # It may be back soon. Nothing is lost but what was read since the last commit.
        log.warning("import waits for the storage", import_id=import_id, error=str(error))
        return _release(file, "skipped", LOOK_SECONDS)
    except OperationalError:
        # The task is tried again, and is to find the file free.
        with suppress(SQLAlchemyError):
            _release(file, "reading", LOOK_SECONDS)
        raise
    except Exception as error:
        # A defect of ours, and the next try would meet it too.
        log.exception("import failed", import_id=import_id)
        return _fail(file, f"A defect of this app, after line {file.line}: {type(error).__name__}.")


def due() -> list[int]:
    """Return imports to hand out, and put their next look off, so that they are not handed out each time.

    One whose reader is lost loses its claim here.
    """
    found = (
        select(ImportFile.id)
        .where(
            ImportFile.status.in_(_UNFINISHED),
            or_(ImportFile.claimed_until.is_(None), ImportFile.claimed_until <= now()),
        )
        .order_by(ImportFile.claimed_until)
        .limit(DUE_MAX)
        .with_for_update(skip_locked=True)
    )
    ids = list(db.session.scalars(found))
    if ids:
        db.session.execute(
            update(ImportFile)
            .where(ImportFile.id.in_(ids))
            .values(claim=None, claimed_until=now() + timedelta(seconds=LOOK_SECONDS))
            .execution_options(synchronize_session=False)
        )
    db.session.commit()
    return ids


def _claim(import_id: int) -> ImportFile | None:
    """Begin a piece; return its file, None if there is nothing to do or somebody does it."""
    file = db.session.scalar(
        update(ImportFile)
        .where(
            ImportFile.id == import_id,
            ImportFile.status.in_(_UNFINISHED),
            or_(ImportFile.claim.is_(None), ImportFile.claimed_until <= now()),
        )
        .values(status="reading", claim=uuid4().hex, claimed_until=_lease())
        .returning(ImportFile)
        .execution_options(populate_existing=True)
    )
    if file is None:
        db.session.rollback()
        return None
    # From here on this process's own notes; what is true stands in the database.
    db.session.expunge(file)
    db.session.commit()
    return file


def _lease() -> Any:
    return now() + timedelta(seconds=LEASE_SECONDS)


def _write(file: ImportFile, **values: Any) -> None:
    """Commit, with the file's row, if it is still ours.

    :raises _Lost: if it is not; then nothing of the transaction is written.
    """
    mine = update(ImportFile).where(ImportFile.id == file.id, ImportFile.claim == file.claim)
    statement = mine.values(**{"claimed_until": _lease(), **values})
    if db.session.execute(statement.execution_options(synchronize_session=False)).rowcount != 1:
        db.session.rollback()
        raise _Lost
    db.session.commit()


def _release(file: ImportFile, answer: str, seconds: float) -> str:
    """Let others go on, and have beat hand it out if nobody does."""
    db.session.rollback()
    try:
        _write(file, claim=None, claimed_until=now() + timedelta(seconds=seconds))
    except _Lost:
        return "skipped"
    return answer


def _fail(file: ImportFile, reason: str) -> str:
    db.session.rollback()
    file.error = reason
    try:
        # First of all: whoever goes on from here finds the reason, and only ends it.
        _write(file, error=reason)
        return _end(file)
    except _Lost:
        return "skipped"
    except storage.StorageError as error:
        log.warning("import waits for the storage", import_id=file.id, error=str(error))
        return _release(file, "skipped", LOOK_SECONDS)


def _end(file: ImportFile) -> str:
    """Delete the stored file, then say that all is done: the other way round a kill would leave it there."""
    storage.current().delete(file.storage_key)
    status = "failed" if file.error else "done"
    _write(file, status=status, ended_at=now(), claim=None, claimed_until=None)
    log.info(
        "import ended",
        import_id=file.id,
        status=status,
        imported=file.imported,
        duplicates=file.duplicates,
        refused=file.refused,
    )
    return status


def _read_piece(file: ImportFile) -> str:
    is_read = file.error is not None or 0 < file.bytes_total == file.bytes_read
    if not is_read and not _read_batches(file):
        return _release(file, "reading", inbox.FIRST_LOOK_SECONDS)
    return _end(file)


def _read_batches(file: ImportFile) -> bool:
    """Read for a while; return whether the end was reached."""
    until = time.monotonic() + PIECE_SECONDS
    limit = current_app.config["WEBHOOK_MAX_BYTES"]
    batch = _Batch()
    with storage.current().open(file.storage_key, file.bytes_read) as content:
        for record in csv_file.read(content, limit, offset=file.bytes_read, line=file.line):
            batch.add(record)
            is_over = time.monotonic() >= until
            if is_over or batch.is_full():
                _store(file, batch)
                batch = _Batch()
            if is_over:
                return False
    batch.bytes_read = file.bytes_total
    _store(file, batch)
    return True


@dataclass(slots=True)
class _Batch:
    """What is written in one transaction."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)
    bytes_read: int = 0
    line: int = 0
    _size: int = 0

    def add(self, record: csv_file.Record) -> None:
        self.bytes_read, self.line = record.end_offset, record.end_line
        if record.row is not None:
            self.rows.append(_values(record.row))
            self._size += len(record.row.body)
        elif record.error is not None:
            self.problems.append((record.line, record.error))

    def is_full(self) -> bool:
        return len(self.rows) + len(self.problems) >= BATCH_ROWS or self._size >= BATCH_BYTES


def _values(row: csv_file.Row) -> dict[str, Any]:
    source = sources.find(row.source)
    scheme = source.scheme if source else ""
    return {
        "source": row.source,
        "delivery_id": row.delivery_id,
        "event": row.event,
        "received_at": row.received_at,
        "body": row.body,
        "title": summaries.title(scheme, row.event, row.payload),
        # As if it had come in by itself: sent again under another id it is refused.
        "digest": hashlib.sha256(row.body.encode()).hexdigest() if scheme == "github" else None,
    }


def _store(file: ImportFile, batch: _Batch) -> None:
    """Write a batch and how far it goes, in one transaction.

    :raises _Lost: if the file is read by somebody else by now; then nothing is written.
    """
    tallied = _insert(batch.rows)
    inbox.count(tallied)
    room = max(0, PROBLEMS_MAX - file.refused)
    if kept := batch.problems[:room]:
        rows = [{"import_file_id": file.id, "line": line, "error": error} for line, error in kept]
        db.session.execute(insert(ImportProblem.__table__), rows)
    file.bytes_read, file.line = batch.bytes_read, max(file.line, batch.line)
    file.imported += tallied.total()
    file.duplicates += len(batch.rows) - tallied.total()
    file.refused += len(batch.problems)
    names = ("bytes_read", "line", "imported", "duplicates", "refused")
    _write(file, **{name: getattr(file, name) for name in names})


def _insert(rows: list[dict[str, Any]]) -> Counter[tuple[Any, str, str]]:
    """Insert messages that are not there yet; return how many, by day, source and event."""
    if not rows:
        return Counter()
    done = {"status": "done", "processed_at": now()}
    # In one order, whatever the file's: two files with the same messages would wait for each other for
    # ever.
    rows = sorted((row | done for row in rows), key=lambda row: (row["source"], row["delivery_id"]))
    table = Message.__table__
    statement = (
        inbox.insert(table)
        .on_conflict_do_nothing()
        .returning(table.c.received_at, table.c.source, table.c.event)
    )
    inserted = db.session.execute(statement, rows)
    return Counter((moment.date(), source, event) for moment, source, event in inserted)
