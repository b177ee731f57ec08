"""Debian's lnav reads the journal of an app and nginx's log with the formats of docs/lnav."""

from __future__ import annotations

import csv
import io
import json

import pytest
from rendering import ROOT
from sandbox import Container
from testbed.access_lines import access_line

ID = "74bb8701461799a0e569060a71ad5a3c"
JOURNAL = [
    {
        "timestamp": "2026-11-30T10:00:01.250000Z",
        "level": "critical",
        "event": "stored",
        "service": "inbox-web",
    },
    {
        "timestamp": "2026-11-30T10:00:03.250000Z",
        "level": "debug",
        "event": "done",
        "service": "inbox-worker",
    },
]
STATUSES = {"502": "error", "404": "warning", "202": "info"}
# Says what lnav found, by a query over all it read.
ASK = """
set -e
cd "$1"; shift
lnav -n -I /lnav -c ";$1" -c ":write-csv-to $PWD/answer.csv" inbox.access.log journal.log > shown 2> said
cat said answer.csv
"""


@pytest.fixture(scope="module", params=[12, 13])
def lnav(request, tmp_path_factory):
    """Return a function that asks lnav of a Debian release something about an app's logs."""
    folder = tmp_path_factory.mktemp("logs")
    common = {"logger": "inbox", "request_id": ID, "release": "r1"}
    lines = [json.dumps({**line, **common}) for line in JOURNAL]
    (folder / "journal.log").write_text("\n".join(lines) + "\n")
    (folder / "inbox.access.log").write_text(
        "".join(f"{access_line(status=status)}\n" for status in STATUSES)
    )
    made = Container(request.param)
    made.begin(["lnav"], [f"--volume={ROOT}/docs/lnav:/lnav:ro", f"--volume={folder}:/logs"], "true")

    def ask(query):
        done = made.run("sh", "-c", ASK, "sh", "/logs", query)
        assert done.returncode == 0, done.stdout + done.stderr
        return list(csv.DictReader(io.StringIO(done.stdout)))

    yield ask
    made.__exit__()


def test_lines_of_both_stand_in_one_order_with_their_levels(lnav):
    found = lnav("SELECT log_format, log_level FROM all_logs")
    assert [tuple(line.values()) for line in found] == [
        ("flask_app_log", "critical"),
        *(("flask_nginx_log", level) for level in STATUSES.values()),
        ("flask_app_log", "debug"),
    ]


def test_every_field_of_nginxs_log_can_be_asked_for(lnav):
    names = json.loads(access_line()).keys() - {"timestamp"}
    # What a line says of itself has a name of lnav's.
    columns = ", ".join(sorted(names - {"path"}))
    found = lnav(f"SELECT {columns}, log_body FROM flask_nginx_log WHERE status >= 500")
    assert [(line["request_id"], line["status"], line["request_time"]) for line in found] == [
        (ID, "502", "0.5")
    ]


def test_fields_of_the_apps_log_can_be_asked_for(lnav):
    asked = f"SELECT service, log_body FROM flask_app_log WHERE request_id = '{ID}' AND release = 'r1'"
    assert [tuple(line.values()) for line in lnav(asked)] == [
        ("inbox-web", "stored"),
        ("inbox-worker", "done"),
    ]
