"""`trace` puts one request's lines in order, whatever wrote them; `logs` those of a while."""

import gzip
import json
import time
from datetime import UTC, datetime

import pytest
from releasectl import reading, systemd, tails

ID = "74bb8701461799a0e569060a71ad5a3c"
RELEASE, OTHER = "20261129T110000Z-aaaaaaa", "20261129T100000Z-bbbbbbb"
# Whole seconds: nginx writes no others.
NOW = int(time.time()) - 60
# As the real one, the newest first; what it was asked is kept.
JOURNAL = """#!/bin/sh
echo "$@" >> {base}/asked
case "$*" in *MESSAGE_ID=*) cat {base}/dropped ;; *) tac {base}/journal ;; esac
"""
KINDS = ("web", "worker", "beat", "flower", "migrate", "hook")


def at(seconds):
    return datetime.fromtimestamp(NOW + seconds, UTC)


def line(seconds, event, request_id=ID, **more):
    told = {"timestamp": at(seconds).isoformat(), "level": "info", "event": event, "logger": "x"}
    return json.dumps({**told, "request_id": request_id, "release": RELEASE, **more}) + "\n"


def entry(seconds, kind, message, release=RELEASE):
    told = {"__REALTIME_TIMESTAMP": str(int((NOW + seconds) * 1e6)), "SYSLOG_IDENTIFIER": f"inbox-{kind}"}
    told |= {"_SYSTEMD_UNIT": f"inbox-{kind}@{release}.service"}
    return (
        json.dumps({**told, "MESSAGE": message.rstrip("\n") if isinstance(message, str) else message}) + "\n"
    )


def statement(seconds, severity, text):
    return f"{at(seconds).strftime('%Y-%m-%d %H:%M:%S.%f')[:-3]} UTC [7] inbox@inbox {severity}:  {text}\n"


def access(seconds, status, request_id=ID, **more):
    told = {"method": "POST", "path": "/hooks/x", "status": status, "request_time": 1.5}
    text = line(seconds, "request", request_id, **told, upstream_response_time="1.400", **more)
    # As nginx's log_format has it: no space.
    return text.replace('"status": ', '"status":')


@pytest.fixture
def logged(apphost, monkeypatch):
    """An app whose request was answered, done by a worker and slow in the database."""
    logs, databases = apphost.base / "logs", apphost.base / "postgresql"
    for folder in (logs, databases):
        folder.mkdir()
    (logs / "shop.access.log").write_text(
        access(3, 200, "another-request", release=OTHER) + access(9, 502, "bad-request")
    )
    with gzip.open(logs / "shop.access.log.2.gz", "wt") as rotated:
        rotated.write(access(2, 202))
    slow = f"duration: 400.000 ms  execute <unnamed>: SELECT 1\n\tFROM message /* request_id='{ID}' */"
    (databases / "postgresql-17-main.log").write_text(
        statement(1.6, "LOG", "checkpoint complete: wrote 3 buffers")
        + statement(1.9, "LOG", slow)
        + statement(1.9, "DETAIL", "Parameters: $1 = 'a secret'")
        + statement(3, "LOG", "other")
        + statement(4.5, "ERROR", 'relation "gone" does not exist at character 15')
        + statement(4.5, "STATEMENT", f"SELECT 1 FROM gone /* request_id='{ID}' */")
        + statement(5, "ERROR", f"somebody else's who mentions {ID}")
    )
    (apphost.base / "journal").write_text(
        entry(1.25, "web", line(1.25, "stored", message_id=7))
        + entry(1.3, "web", line(1.3, f"names {ID} alone", "another"))
        + entry(1.4, "web", f"no JSON {ID}")
        + entry(4.25, "worker", line(4.25, "Task done", task_id="t1"))
        + entry(5.25, "worker", line(5.25, "left", "another", level="error", release=OTHER, exception="a\nb"))
        + entry(6, "web", "Traceback: no module named gone", OTHER)
    )
    (apphost.base / "dropped").touch()
    journalctl = apphost.systemd.folder / "journalctl"
    journalctl.write_text(JOURNAL.format(base=apphost.base))
    apphost.configure(access_log=str(logs / "shop.access.log"))
    monkeypatch.setattr(reading, "DATABASE_LOGS", (databases, "postgresql-*.log*"))
    return apphost


def said(told):
    return [(one["source"], one["level"], one["message"].partition("=")[0]) for one in told["lines"]]


def test_lines_of_one_request_are_told_in_order(logged):
    told = logged.ok("trace", ID)
    assert [one["source"] for one in told["lines"]] == ["nginx", "app", "sql", "worker", "sql"]
    assert all(one["fields"]["request_id"] == ID for one in told["lines"])
    words = logged.run("trace", ID, json_form=False).out.splitlines()
    assert words[0] == f"{ID}, from {at(0.5).isoformat(timespec='milliseconds').replace('+00:00', 'Z')} on"
    assert (
        " ".join(words[1].split()) == "0.000 s nginx info POST /hooks/x 202 in 1.5 s, 1.400 s of it the app's"
    )
    assert " ".join(words[2].split()) == "0.750 s app info stored message_id=7"
    assert words[4].split()[:3] == ["3.750", "s", "worker"]


def test_statement_is_told_from_when_it_began_without_the_values_it_was_given(logged):
    slow, failed = [one for one in logged.ok("trace", ID)["lines"] if one["source"] == "sql"]
    assert slow["at"] == pytest.approx(NOW + 1.5)
    assert slow["message"].startswith(
        "duration: 400.000 ms execute <unnamed>: SELECT 1 FROM message /* request_id"
    )
    assert "a secret" not in json.dumps(slow)
    # The id stands in the line behind the one that says what went wrong.
    assert failed["level"] == "error"
    assert failed["message"].startswith('relation "gone" does not exist at character 15 SELECT 1 FROM gone')


def asked_for(logged):
    """Return the last words that journalctl was asked with, and since when."""
    words = (logged.base / "asked").read_text().splitlines()[-1].split()
    return words, float(
        next(word for word in words if word.startswith("--since=@")).removeprefix("--since=@")
    )


def test_only_the_apps_own_journal_is_asked_and_only_so_far_back(logged):
    before = time.time()
    logged.run("trace", "no-such-request", "--since", "2h")
    words, since = asked_for(logged)
    assert before - 7201 < since < time.time() - 7199
    found = {word for word in words if word.startswith("--identifier=")}
    assert found == {f"--identifier=inbox-{kind}" for kind in KINDS}
    assert "--grep=no\\-such\\-request" in words


def test_journal_is_read_no_further_back_than_the_request_where_nginx_tells_of_it(logged):
    logged.ok("trace", ID, "--since", "2h")
    assert asked_for(logged)[1] == NOW + 0.5 - 1


def test_request_nothing_is_known_of_is_told_with_where_one_looked_and_what_to_type(logged):
    run = logged.run("trace", "no-such-request")
    assert run.code == 5
    assert run.error["cause"].startswith("nothing of no-such-request since 20")
    for place in ("shop.access.log*: 2 files", "the journal of inbox-web, ", "postgresql-*.log*: 1 file of"):
        assert place in run.error["cause"]
    assert run.error["next"] == "sudo releasectl --app inbox trace no-such-request --since 7d"


def test_what_cannot_be_read_is_told_beside_what_could(logged):
    (logged.base / "logs/shop.access.log.3.gz").write_text("no archive")
    journalctl = logged.systemd.folder / "journalctl"
    journalctl.write_text("#!/bin/sh\necho 'No journal files were opened' >&2; exit 1")
    told = logged.ok("trace", ID)
    assert {one["source"] for one in told["lines"]} == {"nginx", "sql"}
    assert "the journal: No journal files were opened" in told["unread"]
    assert any("shop.access.log.3.gz" in one for one in told["unread"])
    assert "Not read: the journal: No journal" in logged.run("trace", ID, json_form=False).out


def test_journal_that_says_nothing_for_long_is_given_up_with_what_it_said_before(logged, monkeypatch):
    monkeypatch.setattr(systemd, "ANSWER_SECONDS", 1)
    journalctl = logged.systemd.folder / "journalctl"
    stuck = f"*) grep stored {logged.base}/journal; exec sleep 60 ;;"
    journalctl.write_text(f'#!/bin/sh\ncase "$*" in *MESSAGE_ID=*) ;; {stuck} esac')
    told = logged.ok("trace", ID)
    assert [one["source"] for one in told["lines"]] == ["nginx", "app", "sql", "sql"]
    assert told["unread"] == ["the journal: journalctl was not through after 1 s"]


def test_what_the_journal_dropped_of_the_app_is_counted(logged):
    def dropped(count, unit):
        told = json.loads(entry(1, "x", f"Suppressed {count} messages from {unit}"))
        return json.dumps({**told, "N_DROPPED": str(count)}) + "\n"

    web = f"inbox-web@{RELEASE}.service"
    told = dropped(70, web) + dropped(5, "another.service") + dropped(30, web)
    (logged.base / "dropped").write_text(told)
    assert logged.ok("logs")["unread"] == [f"100 messages of {web}: the journal dropped them"]


@pytest.mark.parametrize(
    "words", [["a b"], ["$(reboot)"], ["short"], [ID, "--since", "0h"], [ID, "--since", "x"]]
)
def test_what_is_no_request_id_or_no_time_is_refused(logged, words):
    run = logged.run("trace", *words)
    assert run.code == 5
    assert not (logged.base / "asked").exists()


ALL = [
    ("app", "info", "stored message_id"),
    ("app", "info", f"names {ID} alone"),
    ("app", "", f"no JSON {ID}"),
    ("nginx", "info", "POST /hooks/x 200 in 1.5 s, 1.400 s of it the app's"),
    ("worker", "info", "Task done task_id"),
    ("worker", "error", "left exception"),
    ("app", "", "Traceback: no module named gone"),
    ("nginx", "error", "POST /hooks/x 502 in 1.5 s, 1.400 s of it the app's"),
]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["--level", "error"], [2, 5, 6, 7]),
        (["--release", OTHER], [3, 5, 6]),
        (["--status", "5xx"], [7]),
        (["--status", "200"], [3]),
        (["--grep", "STORED"], [0]),
        (["--grep", ID], [0, 1, 2, 4]),
        (["--lines", "2"], [6, 7]),
        (["--level", "error", "--release", OTHER, "--grep", "module"], [6]),
        (["--status", "404"], []),
    ],
)
def test_lines_are_those_that_were_asked_for(logged, words, numbers):
    (logged.base / "logs/shop.access.log.2.gz").unlink()
    assert said(logged.ok("logs", *words)) == [ALL[number] for number in numbers]


def test_lines_are_the_newest_of_a_while_whichever_file_they_are_in(logged):
    told = logged.ok("logs", "--status", "202")
    assert [one["at"] for one in told["lines"]] == [NOW + 0.5]
    assert logged.ok("logs", "--status", "202", "--until", "1h", "--since", "2h")["lines"] == []
    assert logged.ok("logs", "--lines", "1")["more"] is True
    assert (
        "There are older ones: these are the newest 1."
        in logged.run("logs", "--lines", "1", json_form=False).out
    )


def test_words_are_one_line_each_whatever_was_logged(logged):
    evil = line(1, "red\x1b[31m\nforged\u2028x", exception="y" * 2000)
    (logged.base / "journal").write_text(entry(1, "web", evil))
    words = logged.run("logs", "--grep", "forged", json_form=False).out
    assert words.endswith(f" …  {ID}\n")
    assert words.count("\n") == 1
    assert "red\\x1b[31m\\nforged\\u2028x exception=yyy" in words
    assert len(words) < 1200
    assert logged.ok("logs", "--grep", "forged")["lines"][0]["fields"]["exception"] == "y" * 2000


def test_message_that_is_no_text_is_told_all_the_same(logged):
    (logged.base / "journal").write_text(entry(1, "web", [255, 104, 105]) + entry(2, "web", None))
    assert [one["message"] for one in logged.ok("logs", "--level", "error")["lines"]][:2] == ["\ufffdhi", ""]


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--since", "15x"], "since is '15x': give a time ago such as 15m"),
        (["--since", "2026-13-01T00:00Z"], "since is '2026-13-01T00:00Z'"),
        (["--since", "1h", "--until", "2h"], "until is '2h': give"),
        (["--level", "bad"], "level is 'bad': give one of debug, info"),
        (["--release", "latest"], "release is 'latest': give a release's id"),
        (["--status", "600"], "status is '600': give a status"),
        (["--grep", "a\nb"], "grep is 'a\\nb': give a text of one line"),
        (["--lines", "0"], "lines is '0': give a whole number from 1 to 9999"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_with_what_can(logged, words, cause):
    run = logged.run("logs", *words)
    assert (run.code, cause in run.error["cause"]) == (5, True), run.error
    assert not (logged.base / "asked").exists()


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
def test_file_is_read_from_its_end_whatever_its_length(tmp_path, monkeypatch, block):
    monkeypatch.setattr(tails, "BLOCK", block)
    path = tmp_path / "log"
    records = ["one", "two\n\tgoes on\n\tand on", "three", "", "four two"]
    for end in ("", "\n"):
        path.write_text("\n".join(records) + end)
        assert list(tails.backward(path, b"")) == ["four two", "three", records[1], "one"]
        assert list(tails.backward(path, b"two")) == ["four two", records[1]]
        with gzip.open(tmp_path / "log.gz", "wt") as file:
            file.write("\n".join(records) + end)
        assert list(tails.forward(tmp_path / "log.gz", b"two")) == [records[1], "four two"]
