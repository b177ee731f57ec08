"""Messages as CSV (RFC 4180): what is exported can be imported, here or elsewhere, and is the same again.

Read from a file of any size in constant memory, whatever is in it: a line that is wrong is told by its
number, and reading goes on with the next.

No value is a formula to a spreadsheet that splits at commas alone: names of sources, ids and events begin
with a letter or a digit (:data:`inbox.messages.signatures.WORD`), times with a digit, bodies with a brace.
One that splits elsewhere, at semicolons for instance, cuts bodies in pieces, and a piece may begin with
anything. Quotes do not reliably prevent it, and a body must stay as it came.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO

from ..models import now
from .signatures import WORD
from .sources import NAME

COLUMNS = ("source", "delivery_id", "event", "received_at", "body")
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
#: How far another system's clock may be ahead.
AHEAD = timedelta(days=1)
#: Room for the other columns of a record.
_OTHER_COLUMNS_BYTES = 4096
_BOM = b"\xef\xbb\xbf"
_NOT_CSV = "It is not CSV: a quote stands where none may, or is not closed."

# A limit of the whole process, at 128 KiB until somebody lifts it, and a body may be larger. What is
# bounded here is the record.
csv.field_size_limit(2**31 - 1)


class NotOurs(Exception):
    """The file as a whole is none of this kind; the words say why."""


@dataclass(frozen=True, slots=True)
class Row:
    """A message of a file.

    :param payload: the body, parsed.
    """

    source: str
    delivery_id: str
    event: str
    received_at: datetime
    body: str
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Record:
    """What stands at a place of a file; neither row nor error if the line is empty.

    :param line: the number of its first line, from 1.
    :param end_line: how many lines have been read with it.
    :param end_offset: how many bytes have been read with it: where to go on.
    """

    line: int
    end_line: int
    end_offset: int
    row: Row | None = None
    error: str | None = None


def header() -> bytes:
    """Return the first line."""
    return _encoded(COLUMNS)


def row(source: str, delivery_id: str, event: str, received_at: datetime, body: str) -> bytes:
    """Return a message's line, or lines."""
    return _encoded((source, delivery_id, event, received_at.astimezone(UTC).isoformat(), body))


def _encoded(values: tuple[str, ...]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(values)
    return text.getvalue().encode()


def read(file: BinaryIO, body_max_bytes: int, *, offset: int = 0, line: int = 0) -> Iterator[Record]:
    """Yield what stands in a file, record by record.

    A record that is not even CSV may have been taken for longer than it is, by a quote that never closes:
    after such a one reading goes on with the line after its first.

    :param file: is read from where it stands.
    :param body_max_bytes: a larger body is refused.
    :param offset: what a record said where ``file`` stands now; 0 begins with the header.
    :param line: what the same record said.
    :raises NotOurs: if it does not begin with the header.
    """
    # Every character of a body may be a quote, and is two then.
    lines = _Lines(file, 2 * body_max_bytes + _OTHER_COLUMNS_BYTES, offset, line)
    if offset == 0:
        _check_header(lines.take())
    while (first := lines.take()) is not None:
        begins = lines.line
        if first.is_cut:
            yield lines.record(begins, error=f"The line is longer than {lines.limit_bytes} bytes.")
            continue
        data = lines.until_quotes_close(first.data)
        fields = _fields(data) if data is not None else None
        if fields is None:
            lines.back_to_first()
            yield lines.record(begins, error=_NOT_CSV)
        elif not fields:
            yield lines.record(begins)
        else:
            found = _row(fields, data, body_max_bytes)
            yield lines.record(begins, **{"error" if isinstance(found, str) else "row": found})


@dataclass(frozen=True, slots=True)
class _Line:
    data: bytes
    length: int
    #: It was longer than a record may be, and has been passed over.
    is_cut: bool = False


class _Lines:
    """The lines of a file, the last of which may be given back.

    What may be given back is kept as one piece: as objects, two million empty lines would take a hundred
    times what they are long.
    """

    def __init__(self, file: BinaryIO, limit_bytes: int, offset: int, line: int) -> None:
        self._file = file
        self.limit_bytes = limit_bytes
        self.offset = offset
        self.line = line
        self._given_back = io.BytesIO()
        self._cut_given_back: _Line | None = None
        self._after_first = bytearray()
        self._cut_after_first: _Line | None = None

    def take(self) -> _Line | None:
        """Return the next line, None at the end."""
        found = self._next()
        if found is not None:
            self.offset += found.length
            self.line += 1
        return found

    def _next(self) -> _Line | None:
        if data := self._given_back.readline():
            return _Line(data, len(data))
        if self._cut_given_back is not None:
            found, self._cut_given_back = self._cut_given_back, None
            return found
        data = self._file.readline(self.limit_bytes + 1)
        if not data:
            return None
        length, rest = len(data), data
        if length <= self.limit_bytes:
            return _Line(data, length)
        while rest and not rest.endswith(b"\n"):
            rest = self._file.readline(64 * 1024)
            length += len(rest)
        return _Line(b"", length, is_cut=True)

    def until_quotes_close(self, data: bytes) -> bytes | None:
        """Return a line with as many more as stand between its quotes, None if they do not close in time."""
        # Where quotes are doubled inside of quotes, an odd number of them means: still inside.
        is_open = data.count(b'"') % 2
        while is_open:
            more = self.take()
            if more is None:
                return None
            if more.is_cut:
                self._cut_after_first = more
                return None
            self._after_first += more.data
            if len(data) + len(self._after_first) > self.limit_bytes:
                return None
            is_open ^= more.data.count(b'"') % 2
        return data + self._after_first

    def back_to_first(self) -> None:
        """Give back all that was taken after the first line."""
        if self._after_first:
            self.offset -= len(self._after_first)
            # Each but the file's last ends so, and after that one there is nothing.
            self.line -= self._after_first.count(b"\n") + (not self._after_first.endswith(b"\n"))
            self._given_back = io.BytesIO(self._after_first + self._given_back.read())
        if self._cut_after_first is not None:
            self._cut_given_back = self._cut_after_first
            self.offset -= self._cut_given_back.length
            self.line -= 1

    def record(self, begins: int, **found: Any) -> Record:
        """Return what stands from a line to here, and keep what was taken for it."""
        self._after_first = bytearray()
        self._cut_after_first = None
        return Record(begins, self.line, self.offset, **found)


def _check_header(first: _Line | None) -> None:
    if first is None:
        raise NotOurs("The file is empty.")
    fields = _fields(first.data.removeprefix(_BOM))
    if fields != list(COLUMNS):
        raise NotOurs(f"The first line is not the header: {','.join(COLUMNS)}")


def _fields(data: bytes) -> list[str] | None:
    """Return a record's fields, none of an empty line; None if it is not one record of CSV."""
    # What is no UTF-8 is told later: where the record ends can be seen all the same.
    try:
        rows = list(csv.reader([data.decode("utf-8", "replace")], strict=True))
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def _row(fields: list[str], data: bytes, body_max_bytes: int) -> Row | str:
    """Return a message, or what is wrong with it."""
    if len(fields) != len(COLUMNS):
        return f"It has {len(fields)} columns instead of {len(COLUMNS)}."
    try:
        data.decode()
    except UnicodeDecodeError:
        return "It is not UTF-8."
    if b"\0" in data:
        return "It holds a NUL."
    source, delivery_id, event, moment, body = fields
    if not NAME.fullmatch(source):
        return "source is not lower-case letters, digits and dashes, 40 at most."
    for name, word in (("delivery_id", delivery_id), ("event", event)):
        if not WORD.fullmatch(word):
            return f"{name} is missing, too long, or holds more than letters, digits and . _ : / -"
    received_at = _moment(moment)
    if isinstance(received_at, str):
        return received_at
    payload = _payload(body, body_max_bytes)
    if isinstance(payload, str):
        return payload
    return Row(source, delivery_id, event, received_at, body, payload)


def _moment(text: str) -> datetime | str:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return "received_at has no zone: 2026-09-30T12:00:00Z has one."
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return "received_at is no time such as 2026-09-30T12:00:00Z."
    if not EARLIEST <= moment <= now() + AHEAD:
        return "received_at is before 1970 or in the future."
    return moment


def _payload(body: str, max_bytes: int) -> dict[str, Any] | str:
    if len(body) > max_bytes or len(body.encode()) > max_bytes:
        return f"body is longer than {max_bytes} bytes."
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return "body is not JSON."
    return payload if isinstance(payload, dict) else "body is not a JSON object."
