"""A hundred megabytes of CSV go in and out through nginx, in memory that does not grow with them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from relaying import Inbox
from sampling import Sampling
from testbed import durations
from testbed.sites import until

pytestmark = pytest.mark.long

ROWS = 150_000
MALFORMED_LINE = 77_777
BODY = '{{""number"": {number}, ""padding"": ""' + 620 * "x" + '""}}'
ROW = '{source},order-{number},order,2026-09-30T12:00:00Z,"' + BODY + '"\r\n'
GROWTH_LIMIT_MIB = 40
PIECE_BYTES = 1 << 20


def write(path: Path, source: str, rows: int, malformed_line: int = 0) -> int:
    """Write a file of messages, one line of which may be none; return its bytes."""
    with path.open("w") as file:
        file.write("source,delivery_id,event,received_at,body\r\n")
        # The header is the first line.
        for line in range(2, rows + 2):
            file.write(
                "this is none\r\n" if line == malformed_line else ROW.format(source=source, number=line)
            )
    return path.stat().st_size


def hand_in(inbox: Inbox, bearer: dict[str, str], path: Path) -> str:
    """Send a file as the API takes it; return the address that tells how far it is read."""
    connection = inbox.app.web.connection()
    connection.timeout = 120
    size = str(path.stat().st_size)
    headers = {
        "Host": inbox.app.web.host_header,
        "Content-Type": "text/csv",
        "Content-Length": size,
        **bearer,
    }
    with path.open("rb") as file:
        connection.request("POST", f"/api/v1/imports?name={path.name}", body=file, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
    connection.close()
    assert answer.status == 202, text[:500]
    return f"/api/v1/imports/{json.loads(text)['id']}"


def read(inbox: Inbox, bearer: dict[str, str], address: str, seconds: float) -> dict:
    """Wait until a file is read; return what the API says of it."""

    def state():
        return inbox.app.web.get(address, headers=bearer).json()

    until(seconds, lambda: state()["status"] in ("done", "failed"), 1)
    return state()


@pytest.fixture(scope="module")
def imported(inboxes, tmp_path_factory):
    """Hand in a large file and wait until it is read; return what was seen."""
    inbox, folder = inboxes["redis"], tmp_path_factory.mktemp("csv")
    bearer = inbox.sender.bearer()
    # What a worker loads with its first file it keeps.
    write(folder / "small.csv", "small", 1000)
    assert read(inbox, bearer, hand_in(inbox, bearer, folder / "small.csv"), 30)["imported"] == 1000
    large = folder / "large.csv"
    seen = SimpleNamespace(inbox=inbox, bearer=bearer, bytes=write(large, "shop", ROWS, MALFORMED_LINE))
    words = f"{inbox.site.name} {seen.bytes / 1e6:.0f} MB of CSV"
    with Sampling(inbox.site, inbox.unit("worker")) as seen.memory:
        with durations.measured(f"{words} handed in"):
            address = hand_in(inbox, bearer, large)
        with durations.measured(f"{words}, {ROWS} rows, read"):
            seen.state = read(inbox, bearer, address, 300)
    inbox.site.say(f"{inbox.site.name} worker that reads {seen.bytes / 1e6:.0f} MB: {seen.memory.words}")
    seen.problems = inbox.app.web.get(f"{address}/problems", headers=bearer).json()["problems"]
    return seen


def test_large_file_is_read_to_its_end(imported):
    assert imported.bytes > 100e6
    assert imported.state["status"] == "done", imported.state
    assert imported.state["bytes_read"] == imported.bytes
    assert imported.state["imported"] == ROWS - 1
    assert imported.inbox.query("select sum(count) from tally where source = 'shop'") == str(ROWS - 1)


def test_line_that_is_no_message_is_told_by_its_number(imported):
    assert imported.state["refused"] == 1
    assert [problem["line"] for problem in imported.problems] == [MALFORMED_LINE]


def test_worker_that_reads_a_large_file_does_not_grow_with_it(imported):
    assert len(imported.memory.mib) > 5, imported.memory.words
    assert imported.memory.growth_mib < GROWTH_LIMIT_MIB, imported.memory.words


@pytest.fixture(scope="module")
def exported(imported):
    """Take everything out again; return what was seen."""
    inbox = imported.inbox
    seen = SimpleNamespace(bytes=0, lines=0)
    connection = inbox.app.web.connection()
    connection.timeout = 60
    headers = {"Host": inbox.app.web.host_header, **imported.bearer}
    with (
        Sampling(inbox.site, inbox.unit("web")) as seen.memory,
        durations.measured(f"{inbox.site.name} {imported.bytes / 1e6:.0f} MB of CSV taken out"),
    ):
        connection.request("GET", "/api/v1/exports/messages.csv?source=shop", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()[:500]
        while piece := answer.read(PIECE_BYTES):
            seen.bytes += len(piece)
            seen.lines += piece.count(b"\n")
    connection.close()
    inbox.site.say(f"{inbox.site.name} web that sends them: {seen.memory.words}")
    return seen


def test_everything_comes_out_again(exported):
    assert exported.lines == ROWS
    assert exported.bytes > 100e6


def test_web_does_not_grow_with_what_is_taken_out(exported):
    assert exported.memory.growth_mib < GROWTH_LIMIT_MIB, exported.memory.words
