"""From boot to stop, a thousand hostile requests and a reload between: every line is one JSON object."""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import unmodified
from testbed import durations
from testbed.sites import until

REQUESTS, THREADS = 1000, 4
# The words of the app's own table.
REQUESTS_OWN = ("message", "argument", "wrong arguments", "extra field", "library", "own handler", "print")
REQUESTS_OWN += ("print to stderr", "warning", "printed traceback", "exception")
WAYS = (*REQUESTS_OWN, "greenlet", "thread")
# Whoever reads lines could take this for one of the app's.
FORGED = json.dumps(dict.fromkeys(sorted(unmodified.FIELDS), "forged"))
HOSTILE = {
    "plain": b"nothing special",
    "lines": b"one\ntwo\r\nthree\rfour\x0bfive\x0csix",
    "escape codes": b"\x1b[31mred\x1b[0m \x1b]0;title\x07 \x08\x7f",
    "unicode ends of line": "a\u2028b\u2029c\u0085d".encode(),
    "not UTF-8": b"\xff\xfe\x80 \xc3( \xed\xa0\x80",
    "formats": b"100% %s %d %(name)s {x} {0} $HOME",
    "nul": b"before\x00after",
    "a forged line": f"\n{FORGED}\n".encode(),
    "far planes": "\U0001f388\ufeff\u202etxet\u200b".encode(),
    "brackets": b'}]}"\'\\"' * 50,
    "200 KB": b"x" * 200_000,
    "200 KB of lines": b"line\n" * 40_000,
}
SELDOM = 20
"""One in so many requests says something of 200 KB."""


def sayings(count: int) -> list[tuple[str, str, bytes]]:
    """Return a mix of ways and contents, the same in every run: word, way, body."""
    chance = random.Random(5)
    long = [name for name in HOSTILE if name.startswith("200")]
    short = [name for name in HOSTILE if name not in long]
    # Each way with each content first.
    pairs = [(way, content) for way in WAYS for content in short]
    pairs += [(way, content) for way in WAYS for content in long]
    while len(pairs) < count:
        pairs.append((chance.choice(WAYS), chance.choice(long if chance.random() < 1 / SELDOM else short)))
    marked = [(f"say-{number:04}-{chance.getrandbits(32):08x}", *pair) for number, pair in enumerate(pairs)]
    # In front and behind: a record too long is cut at either end.
    return [
        (word, way, f"{word} ".encode() + HOSTILE[what] + f" {word}".encode()) for word, way, what in marked
    ]


@pytest.fixture(scope="module")
def said(hostile):
    """Boot, a thousand requests, a reload, more requests, a stop; return what was logged."""
    app = hostile.app
    seen = SimpleNamespace(app=app, requests={}, ids={}, failures=[], active=app.active)
    logged_before = len(app.access_log())
    queue = sayings(REQUESTS)

    def ask_all(mine: list) -> None:
        connection = app.web.connection()
        headers = {"Host": app.web.host_header, "Content-Type": "text/plain"}
        for word, way, body in mine:
            try:
                connection.request("POST", f"/say?way={quote(way)}&word={word}", body=body, headers=headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                seen.failures.append(f"{word} {way}: {error!r}")
                connection.close()
                continue
            seen.requests[word] = (way, answer.status)
            seen.ids[word] = answer.headers["X-Request-ID"]
        connection.close()

    def ask_side_by_side(some: list) -> None:
        threads = [
            threading.Thread(target=ask_all, args=(some[number::THREADS],), daemon=True)
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)

    with durations.measured(f"{app.site.name} {REQUESTS} hostile requests"):
        ask_side_by_side(queue[: REQUESTS * 9 // 10])
    seen.processes = [app.processes()]
    app.site.sudo(f"kill -HUP $(systemctl show --property=MainPID --value {app.unit})")
    # The arbiter stays, its workers are others.
    assert until(30, lambda: set(app.processes()) & set(seen.processes[0]) == {seen.processes[0][0]}), (
        "no reload"
    )
    seen.processes.append(app.processes())
    ask_side_by_side(queue[REQUESTS * 9 // 10 :])
    app.site.sudo(f"systemctl stop {app.unit}")
    seen.entries = app.journal()
    seen.access = app.access_log()[logged_before:]
    app.site.sudo(f"systemctl start {app.unit}")
    assert until(20, lambda: app.web.get("/-/readyz").status == 200), app.web.get("/-/readyz").text
    return seen


@pytest.fixture(scope="module")
def lines(said):
    """Return the journal's lines as far as they are JSON objects."""
    found = []
    for entry in said.entries:
        try:
            found.append(json.loads(entry["MESSAGE"]))
        except (TypeError, ValueError):
            continue
    return [line for line in found if isinstance(line, dict)]


def test_every_request_was_answered(said):
    assert said.failures == []
    assert len(said.requests) == REQUESTS
    assert {status for way, status in said.requests.values() if way != "exception"} == {200}
    assert {status for way, status in said.requests.values() if way == "exception"} == {500}


def test_every_line_from_boot_to_stop_is_one_json_object(said):
    assert len(said.entries) > REQUESTS
    wrong = unmodified.unlike_json_lines(said.entries)
    assert wrong == [], f"{len(wrong)} of {len(said.entries)} lines, among them:\n" + "\n".join(wrong[:20])


def test_boot_reload_and_stop_are_among_the_lines(lines):
    words = " ".join(str(line.get("event")) for line in lines)
    for part in ("Starting gunicorn", "Booting worker", "Handling signal: hup", "Handling signal: term"):
        assert part in words, part


def test_lines_name_release_and_service(said, lines):
    assert {line["release"] for line in lines} == {said.active}
    assert {line["service"] for line in lines} == {"hostile-web"}


def test_hostile_content_forges_no_line(lines):
    forged = [line for line in lines if line.get("logger") == "forged" or line.get("event") == "forged"]
    assert forged == []


def test_nothing_that_was_said_is_lost(said):
    whole = "\n".join(str(entry["MESSAGE"]) for entry in said.entries)
    lost = [(word, way) for word, (way, _) in said.requests.items() if word not in whole]
    assert lost == [], f"{len(lost)}: {lost[:20]}"


def test_what_a_request_says_carries_its_id(said, lines):
    ids = {line["request_id"] for line in lines}
    missing = [
        (word, way)
        for word, (way, _) in said.requests.items()
        # A greenlet or a thread of the app's own is no request.
        if way in REQUESTS_OWN and said.ids[word] not in ids
    ]
    assert missing == [], f"{len(missing)}: {missing[:20]}"


def test_what_is_too_long_is_cut_and_marked(said, lines):
    sizes = [len(entry["MESSAGE"]) for entry in said.entries]
    assert max(sizes) < 48 * 1024
    assert sum(1 for line in lines if line.get("truncated") is True) >= len(WAYS)


def test_sentry_that_is_away_does_not_fill_the_journal(lines):
    told = [line for line in lines if line["logger"] in ("flask_ops.errors", "urllib3.connectionpool")]
    # One a minute from each worker, of a thousand reports.
    assert 1 <= len(told) <= 40, told[:5]


def test_access_log_has_one_json_line_a_request(said):
    lines = [json.loads(line) for line in said.access]
    assert all(line.keys() >= unmodified.NGINX_FIELDS for line in lines)
    posted = [line for line in lines if line["path"] == "/say"]
    assert sorted(line["request_id"] for line in posted) == sorted(said.ids.values())
    assert {line["release"] for line in posted} == {said.active}
    assert all(float(line["upstream_response_time"]) >= 0 for line in posted)
    assert not [line for line in said.access if "word=" in line], "queries stay out of it"


def test_access_line_is_json_whatever_bytes_a_client_sends(said):
    web, log = said.app.web, f"/var/log/nginx/{said.app.name}.access.log"
    connection = web.connection()
    connection.connect()
    try:
        connection.sock.sendall(
            b'POST /say/\xff\xfe"\\?way=\xff HTTP/1.1\r\nHost: ' + web.host_header.encode() + b"\r\n"
            b'User-Agent: \xff\xc3( \x1b[31m "\\\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
        )
        assert connection.sock.recv(64).startswith(b"HTTP/1.1 ")
    finally:
        connection.close()
    last = base64.b64decode(said.app.site.sudo(f"tail -n 1 {log} | base64"))
    line = json.loads(last)
    assert (line["path"], line["user_agent"]) == ("[not ASCII]", "[not ASCII]"), last
