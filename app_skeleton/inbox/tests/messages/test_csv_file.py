"""Messages as CSV: what is written is read again, and no file does harm."""

import io
import json
import tracemalloc
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from inbox.messages import csv_file
from inbox.messages.signatures import WORD
from inbox.messages.sources import NAME
from inbox.models import now

MAX = 64 * 1024
HEADER = csv_file.header()
GOOD = csv_file.row("github", "d-1", "push", datetime(2026, 9, 1, 12, tzinfo=UTC), '{"a":\r\n"b,c"}')


def read(data, **place):
    return list(csv_file.read(io.BytesIO(data), MAX, **place))


def told(data):
    """Return what stands in a file: line numbers with a delivery id or with what is wrong."""
    return [
        (found.line, found.error or found.row.delivery_id) for found in read(data) if found.error or found.row
    ]


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
newlines = st.sampled_from(["\n", "\r\n", "\r"])
bodies = st.builds(
    lambda value, indent, is_ascii, newline: json.dumps(value, indent=indent, ensure_ascii=is_ascii).replace(
        "\n", newline
    ),
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), values, max_size=4),
    st.sampled_from([None, 1]),
    st.booleans(),
    newlines,
)
zones = st.sampled_from([UTC, timezone(timedelta(hours=-9, minutes=30))])
moments = st.datetimes(datetime(1970, 1, 2), datetime(2026, 11, 1), timezones=zones)
messages = st.tuples(
    st.from_regex(NAME, fullmatch=True),
    st.from_regex(WORD, fullmatch=True),
    st.from_regex(WORD, fullmatch=True),
    moments,
    bodies,
)


def values_of(row):
    return (row.source, row.delivery_id, row.event, row.received_at, row.body)


@given(st.lists(messages, max_size=6))
def test_what_is_written_is_read_again(written):
    data = HEADER + b"".join(csv_file.row(*message) for message in written)
    found = read(data)
    assert [values_of(record.row) for record in found] == written
    assert all(record.row.payload == json.loads(record.row.body) for record in found)
    # Every line has been counted, and every byte.
    if found:
        assert (found[-1].end_line, found[-1].end_offset) == (data.count(b"\n"), len(data))


@given(st.lists(messages, max_size=4))
def test_no_value_is_a_formula_to_a_spreadsheet(written):
    for message in written:
        assert not csv_file.row(*message).startswith((b"=", b"+", b"-", b"@", b"\t", b"\r"))
        assert message[4][0] == "{"


pieces = st.sampled_from(
    [
        b'"',
        b'""',
        b",",
        b"\n",
        b"\r\n",
        b"\r",
        b"{",
        b"}",
        b"a",
        b"github",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        GOOD,
        HEADER,
    ]
)
garbage = st.binary(max_size=200) | st.lists(pieces, max_size=30).map(b"".join)


@settings(max_examples=300)
@given(garbage)
def test_garbage_after_the_header_never_raises_and_reading_goes_on_from_any_record(data):
    data = HEADER + data
    found = read(data)
    lines = [record.line for record in found]
    assert lines == sorted(set(lines))
    assert all(record.row is None or record.error is None for record in found)
    assert (found[-1].end_offset if found else len(HEADER)) == len(data)
    for number, record in enumerate(found):
        rest = read(data[record.end_offset :], offset=record.end_offset, line=record.end_line)
        assert rest == found[number + 1 :]


@given(garbage)
def test_garbage_instead_of_the_header_is_refused_with_a_reason(data):
    if not data.startswith((HEADER.strip(), b"\xef\xbb\xbf")):
        with pytest.raises(csv_file.NotOurs, match=r"header|empty"):
            read(data)


@given(st.binary(max_size=60).map(lambda data: data.replace(b"\n", b"")))
def test_one_bad_line_hides_no_good_one(bad):
    good = csv_file.row("github", "d-2", "push", now(), "{}")
    for wanted in (GOOD, good):
        found = read(HEADER + bad + b"\n" + wanted)
        assert found[-1].row is not None
        assert found[-1].row.delivery_id in ("d-1", "d-2")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"github,d,push,2026-09-01T00:00Z", "It has 4 columns instead of 5."),
        (b"github,d,push,2026-09-01T00:00Z,{},", "It has 6 columns instead of 5."),
        (b"   ", "It has 1 columns instead of 5."),
        (b"GitHub,d,push,2026-09-01T00:00Z,{}", "source is not"),
        (b",d,push,2026-09-01T00:00Z,{}", "source is not"),
        (b"a" * 41 + b",d,push,2026-09-01T00:00Z,{}", "source is not"),
        (b"=cmd(),d,push,2026-09-01T00:00Z,{}", "source is not"),
        (b"github,,push,2026-09-01T00:00Z,{}", "delivery_id is missing"),
        (b"github,=1+1,push,2026-09-01T00:00Z,{}", "delivery_id is missing"),
        (b"github," + b"d" * 256 + b",push,2026-09-01T00:00Z,{}", "delivery_id is missing, too long"),
        (b"github,d,@push,2026-09-01T00:00Z,{}", "event is missing"),
        (b"github,d," + b"e" * 256 + b",2026-09-01T00:00Z,{}", "event is missing, too long"),
        (b"github,d,push,yesterday,{}", "received_at is no time"),
        (b"github,d,push,2026-09-01T00:00:00,{}", "received_at has no zone"),
        (b"github,d,push,0001-01-01T00:00:00+14:00,{}", "received_at is no time"),
        (b"github,d,push,1969-12-31T23:59Z,{}", "received_at is before 1970"),
        (b"github,d,push,9999-12-31T23:59Z,{}", "in the future"),
        (b"github,d,push,2026-09-01T00:00Z,", "body is not JSON"),
        (b"github,d,push,2026-09-01T00:00Z,[]", "body is not a JSON object"),
        (b'github,d,push,2026-09-01T00:00Z,"{""a"":}"', "body is not JSON"),
        (b"github,d,push,2026-09-01T00:00Z," + b"[" * 30_000, "body is not JSON"),
        (
            b'github,d,push,2026-09-01T00:00Z,"{""a"":""' + b"x" * MAX + b'""}"',
            f"body is longer than {MAX} bytes",
        ),
        (
            b'github,d,push,2026-09-01T00:00Z,"{""a"":""' + "ä".encode() * (MAX // 2) + b'""}"',
            "body is longer",
        ),
        (b'github,d,push,2026-09-01T00:00Z,"{""a"":""' + b"x" * 3 * MAX + b'""}"', "The line is longer than"),
        (b'github,d,push,2026-09-01T00:00Z,"{""a"":""\xff""}"', "It is not UTF-8."),
        (b'github,d,push,2026-09-01T00:00Z,"{""a"":""\0""}"', "It holds a NUL."),
        (b'github,d,push,2026-09-01T00:00Z,"{""a"":1}', "It is not CSV"),
        (b'github,d,push,2026-09-01T00:00Z,"{"a":1}"', "It is not CSV"),
        (b"github,d\rpush,2026-09-01T00:00Z,{}", "It is not CSV"),
    ],
)
def test_bad_line_is_told_by_its_number_and_the_next_is_read(line, words):
    (before, bad, after) = told(HEADER + GOOD + line + b"\r\n" + GOOD)
    assert before == (2, "d-1")
    assert bad[0] == 4  # a good one takes two lines
    assert bad[1].startswith(words) or words in bad[1]
    assert after == (5, "d-1")


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_both_line_endings_a_mark_at_the_start_and_no_end_of_line_at_the_end(ending, bom):
    lines = [
        HEADER.strip(),
        b"shop,d-1,sold,2026-09-01 12:00:00+02:00,{}",
        b"",
        b"shop,d-2,sold,20260901T120000Z,{}",
    ]
    assert told(bom + ending.join(lines)) == [(2, "d-1"), (4, "d-2")]


def test_header_may_be_quoted():
    quoted = ",".join(f'"{name}"' for name in csv_file.COLUMNS).encode()
    assert told(quoted + b"\n" + GOOD) == [(2, "d-1")]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n" + HEADER,
        GOOD,
        HEADER.replace(b",", b";"),
        HEADER.replace(b"event", b"kind"),
        b"source,delivery_id,event,received_at\n",
        HEADER.strip() + b",status\n",
        b"x" * 10 * MAX,
        b"PK\x03\x04 a spreadsheet",
    ],
)
def test_file_of_another_kind_is_refused_as_a_whole(data):
    with pytest.raises(csv_file.NotOurs, match=r"header|empty"):
        read(data)


class Endless(io.RawIOBase):
    """A file that is made while it is read."""

    def __init__(self, *parts):
        self.parts = iter([part for part, times in parts for _ in range(times)])

    def readable(self):
        return True

    def readinto(self, buffer):
        part = next(self.parts, b"")
        assert len(part) <= len(buffer)
        buffer[: len(part)] = part
        return len(part)


@pytest.mark.parametrize(
    "filler",
    [b"x" * 8192, b"github,d,push,2026-09-01T00:00Z,{}\n" * 30, b"\r\n" * 100],
    ids=["one line", "lines", "empty lines"],
)
def test_quote_that_never_closes_fills_no_memory(filler):
    parts = (HEADER, 1), (b'github,d,push,2026-09-01T00:00Z,"{', 1), (filler, 500), (b"\n", 1), (GOOD, 1)
    file = io.BufferedReader(Endless(*parts), 16 * 1024)
    tracemalloc.start()
    try:
        found = count = 0
        for record in csv_file.read(file, MAX):
            count += record.row is None
            found += record.row is not None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found == 1 + (29 + 499 * 30 if filler.startswith(b"github") else 0)
    assert count >= 1
    assert peak < 40 * MAX
