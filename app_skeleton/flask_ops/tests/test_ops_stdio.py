"""Everything a server's processes write is JSON, whatever the app does to logging."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest
from flask_ops import json_lines
from flask_ops.testing import GunicornServer

SAID = [
    b'first\nsecond {"event": "forged"}',
    b"\x1b[31mred\x1b[0m\x00\x07",
    "a\u2028b\u2029c\x85".encode(),
    b"\xff\xfe",
    b"%s %d %(x)s {0} {x}",
    b"y" * 8000,
    b"/reset?a=b password=c",
]


def parsed(text):
    """Return what was written, which must be JSON with every field on every line."""
    assert text.endswith("\n")
    lines = []
    for line in text[:-1].split("\n"):
        assert line.isascii()
        assert len(line) <= json_lines.LINE_LIMIT_BYTES
        fields = json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
        assert list(fields)[:7] == list(json_lines.FIRST)
        assert fields["level"] in ("debug", "info", "warning", "error", "critical")
        assert all(isinstance(fields[name], str) for name in ("timestamp", "event", "logger"))
        lines.append(fields)
    return lines


@pytest.fixture
def serve_noise(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    return lambda app, **env: GunicornServer(app, FLASK_OPS_SERVICE="shop-web", RELEASE_ID="r1", **env)


def reload(server):
    before = set(server.worker_pids())
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 60
    while not (now := set(server.worker_pids())) or now & before:
        assert time.monotonic() < deadline, server.output.read_text()
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("app", "worker_class", "preload", "workers"),
    [("basic()", "gevent", "1", "2"), ("by_dict()", "gthread", "0", "1")],
)
def test_every_line_is_json_whatever_the_app_does(serve_noise, tmp_path, app, worker_class, preload, workers):
    own_file = tmp_path / "own.log"
    env = {
        "GUNICORN_WORKER_CLASS": worker_class,
        "GUNICORN_PRELOAD": preload,
        "GUNICORN_WORKERS": workers,
        "GUNICORN_KEEPALIVE_SECONDS": "1",
        "TEST_LOG_FILE": str(own_file),
    }
    with serve_noise(f"logging_apps:{app}", **env) as server:
        connection = server.connect()
        for number in range(180):
            connection.request("GET", f"/say?text={quote_from_bytes(SAID[number % len(SAID)])}")
            assert connection.getresponse().read() == b"ok"
        for path in ("/hostile", "/printed", "/tracebacks", "/mistakes", "/boom", "/tracebacks", "/mistakes"):
            server.get(path, {"X-Request-ID": path[1:]})
        reload(server)
        size = own_file.stat().st_size if own_file.exists() else None
        server.get("/mistakes", {"X-Request-ID": "reloaded"})
        connection.close()
        assert server.stop() == 0
        lines = parsed(server.output.read_text())
    assert all((line["release"], line["service"]) == ("r1", "shop-web") for line in lines)
    # By the app's logger, by print to stdout, by print to stderr.
    assert sum(line["event"].startswith(("first\nsecond", "said first\nsecond")) for line in lines) == 3 * 26
    for request_id in ("mistakes", "reloaded"):
        told = [line for line in lines if line["request_id"] == request_id]
        words = [(line["logger"], line["level"], line["event"]) for line in told]
        expected = 2 if request_id == "mistakes" else 1
        for one in [("apart", "warning", "apart"), ("mute", "warning", "nobody listens")]:
            assert words.count(one) == expected
        assert words.count((app[:-2], "error", "the app's own")) == expected
        assert not any(line["event"].startswith(("plain ", "[2", "---")) for line in told)
    printed = [line["event"] for line in lines if line["request_id"] == "printed"]
    assert {"no end of lineraw \\xff bytes", "to wsgi.errors"} <= set(printed)
    traces = [line for line in lines if line["event"] == "KeyError: 'caught one'"]
    assert [line["exception"].count("Traceback") for line in traces] == [1, 1, 1, 1]
    uncaught = "".join(line.get("exception", "") for line in lines if line["logger"] == "flask_ops.uncaught")
    assert "ZeroDivisionError" in uncaught
    assert "OSError: in a destructor" in uncaught
    assert any("UserWarning: old ways" in line["event"] for line in lines)
    assert lines[-1]["event"] == "Shutting down: Master"
    # A file of the app's own is its own business, after a reload as before.
    assert size is None or own_file.stat().st_size > size


@pytest.mark.parametrize(
    ("app", "env", "said"),
    [
        ("logging_apps:broken()", {"GUNICORN_PRELOAD": "0"}, ["ImportError: no such wörd"]),
        ("syntax:app", {}, ["SyntaxError: "]),
        (
            "",
            {"GUNICORN_WORKERS": "many"},
            ["GUNICORN_WORKERS='many' is not a whole number", "APP_WSGI is not set"],
        ),
    ],
)
def test_server_that_cannot_start_says_so_in_json_alone(serve_noise, tmp_path, monkeypatch, app, env, said):
    (tmp_path / "syntax.py").write_text("def x(:\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    server = serve_noise(app, TEST_WORDS="no such wörd", **env)
    server.start()
    try:
        assert server.process.wait(60) != 0
    finally:
        server.stop(signal.SIGKILL)
    lines = parsed(server.output.read_text())
    for words in said:
        assert any(words in line["event"] or words in line.get("exception", "") for line in lines)


START = """
import logging, os, sys, threading, traceback
from flask_ops import logs, request_id, stdio
logs.take_over(sys.argv[1])
"""


def run(script, level="info"):
    """Run a script whose output is taken over; return its lines."""
    command = [sys.executable, "-c", START + script, level]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.stderr == b""
    return parsed(done.stdout.decode())


def test_captured_streams_stay_usable():
    lines = run("""
print(sys.stdout.fileno(), sys.stderr.fileno(), sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.name)
sys.__stderr__.write("past the capture\\n")
print("two\\nlines")
print("\\n\\n")
traceback.print_stack()
sys.stdout.write("x" * 100_000)
thread = threading.Thread(target=sys.stdout.write, args=("of a thread",))
thread.start()
thread.join()
sys.stdout.write("unfinished")
sys.stdout.flush()
if os.fork() == 0:
    sys.exit("from a child")
os.wait()
os.dup2(os.open(os.devnull, os.O_RDONLY), 2)
""")
    words = [(line["logger"], line["event"]) for line in lines]
    assert words[:3] == [
        ("stdout", "1 2 False utf-8 <stdout>"),
        ("stderr", "past the capture"),
        ("stdout", "two\nlines"),
    ]
    assert words[3][1].startswith('  File "<string>"')
    assert words[4][1].startswith("xxx")
    assert sorted(words[5:]) == [
        ("stderr", "from a child"),
        ("stdout", "of a thread"),
        ("stdout", "unfinished"),
    ]


def test_text_without_an_end_of_line_goes_with_its_request_or_its_thread():
    lines = run("""
request_id.begin_request("req-1")
sys.stdout.write("no end")
request_id.end_request()
for number in range(1001):
    stdio.unfinished["stdout", -number - 1] = bytearray(b"left behind")
sys.stdout.write("the last")
print(len(stdio.unfinished), file=sys.stderr)
""")
    assert (lines[0]["event"], lines[0]["request_id"]) == ("no end", "req-1")
    assert [line["event"] for line in lines[1:]] == ["left behind"] * 1001 + ["the last", "0"]
    assert {line["request_id"] for line in lines[1:]} == {None}


def test_level_holds_for_what_is_printed_too():
    lines = run(
        """
print("not this")
print("nor this", file=sys.stderr)
try:
    1 / 0
except ZeroDivisionError:
    traceback.print_exc()
""",
        "error",
    )
    assert [line["event"] for line in lines] == ["ZeroDivisionError: division by zero"]


def test_longest_lines_of_several_processes_stay_whole_on_the_journals_socket():
    script = """
import os
from flask_ops import logs
logs.take_over()
for letter in "abc":
    if os.fork() == 0:
        for _ in range(60):
            print(letter * 50_000)
        os._exit(0)
for _ in "abc":
    os.wait()
"""
    journal, stdout = socket.socketpair()
    with subprocess.Popen([sys.executable, "-c", script], stdout=stdout):
        stdout.close()
        lines = parsed(journal.makefile("rb").read().decode())
    journal.close()
    assert sorted(line["event"][0] for line in lines) == ["a"] * 60 + ["b"] * 60 + ["c"] * 60
    assert all(len(set(line["event"])) == 1 for line in lines)


def test_full_disk_fails_nobody():
    script = "from flask_ops import logs\nlogs.take_over()\nprint('lost')\nimport os\nos._exit(7)"
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([sys.executable, "-c", script], stdout=full, timeout=60, check=False)
    assert done.returncode == 7


def test_own_handlers_give_way_once_the_app_is_loaded_and_fail_in_one_line():
    lines = run(
        """
own = logging.StreamHandler()
child = logging.getLogger("shop.basket")
for log in (logging.getLogger("shop"), child):
    log.addHandler(own)
logging.getLogger("shop").propagate = False
logging.getLogger("gunicorn.error").disabled = True
logging.getLogger().handlers = [logging.NullHandler()]
logs.settle()
logs.settle()
child.warning("once")
logging.getLogger("gunicorn.error").warning("alive")
logging.getLogger().warning("root")
assert len(logging.getLogger().handlers) == 2
log = logging.Logger("file")
log.addHandler(logging.FileHandler(os.devnull))
log.warning("%d", "word")
""",
        "debug",
    )
    given_way, *rest, failed = [line for line in lines if line["logger"] != "asyncio"]
    assert given_way["level"] == "debug"
    assert len(given_way["removed"]) == 2
    assert [line["event"] for line in rest] == ["once", "alive", "root"]
    assert (failed["logger"], failed["level"]) == ("flask_ops.uncaught", "error")
    assert "failed on a record of file" in failed["event"]
    assert "TypeError" in failed["exception"]


def test_journal_is_told_how_bad_a_line_is_and_nobody_else():
    script = """
import logging
from flask_ops import logs
logs.take_over("debug")
for level in logs.LEVELS:
    logging.getLogger("app").log(logging.getLevelNamesMapping()[level.upper()], "<0>%s", level)
"""

    def written(stream):
        """Return what stands in front of a line, by level; `stream` is the journal's, as systemd names it."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            found = os.fstat(theirs.fileno())
            env = {**os.environ, "JOURNAL_STREAM": stream or f"{found.st_dev}:{found.st_ino}"}
            subprocess.run([sys.executable, "-c", script], stdout=theirs, env=env, check=True, timeout=30)
            theirs.close()
            text = ours.makefile().read()
        parts = [line.partition("{") for line in text.splitlines()]
        lines = [(front, json.loads(brace + rest)) for front, brace, rest in parts]
        return {line["level"]: front for front, line in lines if line["logger"] == "app"}

    told = {"debug": "<7>", "info": "", "warning": "<4>", "error": "<3>", "critical": "<2>"}
    assert written("") == told
    # Stdout was sent elsewhere since.
    assert written("1:1") == dict.fromkeys(told, "")
