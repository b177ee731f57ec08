"""`trace` puts one request's lines in order, whatever wrote them."""

import gzip
import json

import pytest
from releasectl import tracing

ID = "74bb8701461799a0e569060a71ad5a3c"
JOURNAL = """#!/bin/sh
echo "$@" >> {base}/asked
cat {base}/journal
"""


def line(at, event, request_id=ID, **more):
    told = {"timestamp": at, "level": "info", "event": event, "logger": "x", "request_id": request_id}
    return json.dumps({**told, "release": "r1", **more}) + "\n"


@pytest.fixture
def logged(apphost, monkeypatch):
    """An app whose request was answered, done by a worker and slow in the database."""
    logs, databases = apphost.base / "logs", apphost.base / "postgresql"
    for folder in (logs, databases):
        folder.mkdir()
    asked = {"method": "POST", "path": "/hooks/x", "status": 202, "request_time": 1.5}
    nginx = line("2026-11-29T12:00:02+00:00", "request", **asked, upstream_response_time="1.400")
    (logs / "shop.access.log").write_text(line("2026-11-29T12:00:03+00:00", "request", "another"))
    with gzip.open(logs / "shop.access.log.2.gz", "wt") as rotated:
        rotated.write(nginx)
    slow = (
        f"2026-11-29 12:00:01.500 UTC [7] LOG:  duration: 900 ms  statement: SELECT 1 /*request_id='{ID}'*/"
    )
    (databases / "postgresql-17-main.log").write_text(
        f"{slow}\n2026-11-29 12:00:01.600 UTC [7] LOG:  other\n"
    )
    (apphost.base / "journal").write_text(
        line("2026-11-29T12:00:04.25Z", "Task done", service="inbox-worker", task_id="t1")
        + line("2026-11-29T12:00:01.25Z", "stored", service="inbox-web", message_id=7)
        + line("2026-11-29T12:00:01.30Z", f"names {ID} alone", "another", service="inbox-web")
        + f"no JSON {ID}\n"
    )
    journalctl = apphost.systemd.folder / "journalctl"
    journalctl.write_text(JOURNAL.format(base=apphost.base))
    apphost.configure(access_log=str(logs / "shop.access.log"))
    monkeypatch.setattr(tracing, "DATABASE_LOGS", (str(databases), "postgresql-*.log*"))
    return apphost


def test_lines_of_one_request_are_told_in_order(logged):
    told = logged.ok("trace", ID)
    assert [step["source"] for step in told["steps"]] == ["nginx", "inbox-web", "postgresql", "inbox-worker"]
    words = logged.run("trace", ID, json_form=False).out.splitlines()
    assert words[0] == f"{ID}, from 2026-11-29T12:00:00Z on"
    assert " ".join(words[1].split()) == "0.000 s nginx POST /hooks/x 202 in 1.5 s, 1.400 s of it the app's"
    assert " ".join(words[2].split()) == "0.750 s inbox-web info: stored message_id=7"
    assert words[4].split()[0] == "3.750"


def test_only_the_apps_own_journal_is_asked_and_only_so_far_back(logged):
    logged.ok("trace", ID, "--hours", "2")
    asked = (logged.base / "asked").read_text().split()
    assert "--since=-7200s" in asked
    assert {word for word in asked if word.startswith("--identifier=")} == {
        f"--identifier=inbox-{kind}" for kind in ("web", "worker", "beat", "flower", "migrate", "hook")
    }


def test_request_nothing_is_known_of_is_told_with_what_to_type(logged):
    run = logged.run("trace", "no-such-request")
    assert run.code == 5
    assert "nothing of no-such-request in the last 24 hours" in run.error["cause"]
    assert run.error["next"] == "sudo releasectl --app inbox trace no-such-request --hours 168"


@pytest.mark.parametrize("words", [["a b"], ["$(reboot)"], [ID, "--hours", "0"], [ID, "--hours", "x"]])
def test_what_is_no_request_id_or_no_time_is_refused(logged, words):
    assert logged.run("trace", *words).code == 5
