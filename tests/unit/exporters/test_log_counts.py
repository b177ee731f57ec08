"""Each answer in an access log is counted once, whatever logrotate does between two looks."""

from __future__ import annotations

import gzip
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from testbed.access_lines import access_line

ROOT = Path(__file__).parents[3]
PROGRAM = ROOT / "roles/exporters/files/log_counts.py"


@pytest.fixture(scope="module")
def log_counts():
    spec = importlib.util.spec_from_file_location("log_counts", PROGRAM)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


class Logs:
    """A folder of nginx's logs, counted as its timer has it: what is kept goes through a file each time."""

    def __init__(self, module, folder: Path) -> None:
        self.module, self.folder, self.kept, self.number = module, folder, "{}", 0
        self.path = folder / "inbox.access.log"

    def write(self, status: int, header_time: str = "", path: Path | None = None, count: int = 1) -> None:
        with (path or self.path).open("a") as file:
            for _ in range(count):
                file.write(self.line(status, header_time) + "\n")

    def line(self, status: int, header_time: str = "") -> str:
        self.number += 1
        return access_line(
            request_id=f"{self.number:032x}", status=str(status), upstream_header_time=header_time
        )

    def rotate(self) -> None:
        """Do as Debian's logrotate does: move, compress the one before, make a new one."""
        before = self.path.with_name(f"{self.path.name}.1")
        if before.exists():
            self.path.with_name(f"{self.path.name}.2.gz").write_bytes(gzip.compress(before.read_bytes()))
            before.unlink()
        self.path.rename(before)
        self.path.touch()

    def count(self) -> dict[str, int]:
        kept = json.loads(self.kept)
        self.module.count_responses(kept, self.folder)
        self.kept = json.dumps(kept)
        return {kind: count for kind, count in kept["inbox"]["responses"].items() if count}


@pytest.fixture
def logs(log_counts, tmp_path):
    return Logs(log_counts, tmp_path)


@pytest.mark.parametrize(
    ("status", "header_time", "kind"),
    [
        (200, "0.004", "app 200"),
        (500, "0.004", "app 500"),
        (503, "0.004", "app 503"),
        (502, "-", "edge 502"),
        (504, "-", "edge 504"),
        (503, "", "edge 503"),
        (200, "", "edge 200"),
        (499, "-", "edge 499"),
        # Two releases were asked, and then a place to which nginx sent the request itself.
        (200, "-, 0.020", "app 200"),
        (502, "0.010, -", "edge 502"),
        (200, "0.001 : 0.020", "app 200"),
        (502, "0.001 : -", "edge 502"),
        # The app's to choose, and no label of its own.
        (599, "0.004", "app 5xx"),
    ],
)
def test_who_answered_is_told_by_whether_the_app_sent_a_header(logs, status, header_time, kind):
    logs.write(status, header_time)
    assert logs.count() == {kind: 1}


def test_lines_are_counted_once(logs):
    logs.write(200, "0.1", count=3)
    assert logs.count() == {"app 200": 3}
    assert logs.count() == {"app 200": 3}
    logs.write(502, "-")
    assert logs.count() == {"app 200": 3, "edge 502": 1}


def test_what_is_written_around_a_rotation_is_counted(logs):
    logs.write(200, "0.1", count=3)
    logs.count()
    logs.write(200, "0.1")
    logs.rotate()
    # nginx has not heard of it yet.
    before = logs.path.with_name("inbox.access.log.1")
    logs.write(200, "0.1", path=before)
    assert logs.count() == {"app 200": 5}
    logs.write(200, "0.1", path=before)
    logs.write(200, "0.1")
    assert logs.count() == {"app 200": 7}
    for _ in range(3):
        logs.write(200, "0.1")
        logs.rotate()
        logs.write(200, "0.1")
        logs.count()
    assert logs.count() == {"app 200": 13}


def test_next_log_that_gets_the_inode_of_one_before_is_read_from_its_beginning(logs):
    logs.write(200, "0.1", count=2)
    logs.count()
    inode = logs.path.stat().st_ino
    # The same file with other lines, more than there were: what a new one with this inode looks like.
    logs.path.write_text("".join(f"{logs.line(404)}\n" for _ in range(5)))
    assert logs.path.stat().st_ino == inode
    assert logs.count() == {"app 200": 2, "edge 404": 5}


def test_line_that_nginx_is_still_writing_waits_for_its_end(logs):
    logs.write(200, "0.1")
    text = logs.line(502, "-")
    with logs.path.open("a") as file:
        file.write(text[:40])
    assert logs.count() == {"app 200": 1}
    with logs.path.open("a") as file:
        file.write(text[40:] + "\n")
    assert logs.count() == {"app 200": 1, "edge 502": 1}


def test_lines_of_other_formats_are_passed_over(logs):
    logs.path.write_text('127.0.0.1 - - [x] "GET / HTTP/1.1" 200 1\n[]\n{"status": 200}\n\xff\n')
    logs.write(200, "0.1")
    assert logs.count() == {"app 200": 1}


def test_app_that_was_taken_off_the_host_is_forgotten(logs):
    logs.write(200, "0.1")
    logs.write(200, "0.1", path=logs.folder / "board.access.log")
    logs.count()
    (logs.folder / "board.access.log").unlink()
    logs.count()
    assert json.loads(logs.kept).keys() == {"inbox"}


def test_errors_of_the_edge_are_told_before_there_is_one(log_counts, logs):
    logs.write(200, "0.1")
    logs.count()
    told = log_counts.text({"journal": {"units": {}}, "nginx": json.loads(logs.kept)})
    assert 'nginx_http_responses_total{site="inbox",origin="app",status="200"} 1\n' in told
    for status in (500, 502, 503, 504):
        assert f'nginx_http_responses_total{{site="inbox",origin="edge",status="{status}"}} 0\n' in told


def test_journal_that_cannot_be_read_fails_and_keeps_nothing_else_from_being_told(logs):
    logs.write(502, "-")
    state, metrics = logs.folder / "state.json", logs.folder / "metrics.prom"
    words = ["--state", state, "--metrics", metrics, "--nginx-logs", logs.folder, "--journal", "/nowhere"]
    done = subprocess.run([sys.executable, PROGRAM, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "log-counts: the journal: " in done.stderr
    assert 'origin="edge",status="502"} 1\n' in metrics.read_text()
    assert "journal_dropped" not in metrics.read_text()
