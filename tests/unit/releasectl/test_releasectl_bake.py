"""A release that turns out bad once it has the traffic is taken off it again, by nobody's hand."""

import json
import os
import signal
import threading
import time
from datetime import UTC, datetime

import pytest
from releasectl import bake, traffic
from releasectl.traffic import Answers, Log
from test_releasectl_activation import die_at, serves_alone


def line(release, status=200, seconds="0.010", age_seconds=0.0, upstream_status=None):
    at = datetime.fromtimestamp(time.time() - age_seconds, UTC).isoformat(timespec="seconds")
    told = {"timestamp": at, "status": status, "upstream_header_time": seconds, "request_time": 9.0}
    told |= {
        "release": release,
        "upstream_status": str(status if upstream_status is None else upstream_status),
    }
    return json.dumps(told) + "\n"


@pytest.fixture
def baked(edged, monkeypatch):
    """Give a host whose second release is watched for two seconds, its access log, and when that began."""
    edged.access_log, edged.watched = edged.base / "access.log", edged.base / "watched"
    edged.access_log.touch()
    edged.configure(access_log=str(edged.access_log), bake_seconds=2)
    real = bake._Watch.__init__

    def begin(watch, *words):
        real(watch, *words)
        edged.watched.touch()

    monkeypatch.setattr(bake._Watch, "__init__", begin)
    monkeypatch.setattr(bake, "WARM_UP_SECONDS", 0)
    return edged


@pytest.fixture
def visitors(baked):
    """Return a function that has lines written as soon as a release is watched."""
    threads = []

    def write(lines):
        while not baked.watched.exists():
            time.sleep(0.01)
        with baked.access_log.open("a") as log:
            log.write("".join(lines))

    def begin(lines):
        threads.append(threading.Thread(target=write, args=(lines,), daemon=True))
        threads[-1].start()

    yield begin
    baked.watched.touch()
    for thread in threads:
        thread.join(10)


def test_good_release_stays_and_what_was_seen_is_told(baked, visitors):
    first, second = baked.put(1), baked.put(2)
    baked.serve(first)
    baked.access_log.write_text(line(first) * 80)
    visitors([line(second, seconds="0.012")] * 70)
    told = baked.ok("activate", second)
    assert told["phases"]["bake"] >= 2
    assert told["remarks"] == [
        f"{second}: 70 requests, 0 % errors, p95 12 ms; {first} before: 80 requests, 0 % errors, p95 10 ms"
    ]
    serves_alone(baked, second)
    assert baked.ledger()[-1]["phases"]["bake"] >= 2


def test_release_that_crashes_while_it_is_watched_is_switched_back(baked):
    first, second = baked.put(1), baked.put(2, {"crash_when": str(baked.watched)})
    baked.serve(first)
    # Over as soon as it is seen, however busy the machine.
    baked.configure(bake_seconds=20)
    run = baked.run("activate", second)
    assert (run.code, run.json["result"]) == (3, "switched back")
    assert f"inbox-web@{second}.service crashed while it was watched" in run.error["cause"]
    assert f"traffic is back on {first}" in run.error["cause"]
    assert "MemoryError: the cache is full" in run.error["journal"]
    serves_alone(baked, first)


def test_release_that_is_no_longer_ready_is_switched_back(baked, monkeypatch):
    monkeypatch.setattr(bake, "NOT_READY_SECONDS", 0.3)
    first, second = baked.put(1), baked.put(2, {"unready_when": str(baked.watched)})
    baked.serve(first)
    # Over as soon as it is seen, however busy the machine.
    baked.configure(bake_seconds=20)
    run = baked.run("activate", second)
    assert run.code == 3
    assert "was not ready for 0.3 s while it was watched" in run.error["cause"]
    assert "not_ready" in run.error["health"]
    serves_alone(baked, first)


def test_release_that_answers_with_errors_is_switched_back(baked, visitors):
    first, second = baked.put(1), baked.put(2)
    baked.serve(first)
    # Over as soon as it is seen, however busy the machine.
    baked.configure(bake_seconds=20)
    baked.access_log.write_text(line(first) * 60 + line(first, 500))
    visitors([line(second)] * 57 + [line(second, 500)] * 2 + [line("", 502, "-")])
    run = baked.run("activate", second)
    assert run.code == 3
    assert f"{second} answers with errors: 60 requests, 5 % errors" in run.error["cause"]
    serves_alone(baked, first)


def test_release_no_worse_than_the_one_before_stays(baked, visitors):
    first, second = baked.put(1), baked.put(2)
    baked.serve(first)
    baked.access_log.write_text(line(first, 500) * 60)
    visitors([line(second, 500)] * 60)
    baked.ok("activate", second)
    serves_alone(baked, second)


def test_release_that_is_several_times_as_slow_is_switched_back(baked, visitors):
    first, second = baked.put(1), baked.put(2)
    baked.serve(first)
    # Over as soon as it is seen, however busy the machine.
    baked.configure(bake_seconds=20)
    baked.access_log.write_text(line(first, seconds="0.050") * 60)
    visitors([line(second, seconds="0.010")] * 50 + [line(second, seconds="0.000, 0.400")] * 5)
    run = baked.run("activate", second)
    assert run.code == 3
    assert f"{second} is slow: 55 requests" in run.error["cause"]
    assert "p95 400 ms" in run.error["cause"]
    serves_alone(baked, first)


def test_slow_answers_of_a_release_that_has_just_started_do_not_count(baked, visitors, monkeypatch):
    monkeypatch.setattr(bake, "WARM_UP_SECONDS", 1.5)
    first, second = baked.put(1), baked.put(2)
    baked.serve(first)
    baked.configure(bake_seconds=3)
    baked.access_log.write_text(line(first, seconds="0.050") * 60)
    visitors([line(second, seconds="0.400")] * 60)
    assert "60 requests" in "\n".join(baked.ok("activate", second)["remarks"])
    serves_alone(baked, second)


@pytest.mark.parametrize(
    "lines",
    [
        # Few answers prove nothing.
        [line("NEW", 500)] * 40,
        # Three times nothing is nothing.
        [line("NEW", seconds="0.035")] * 60,
        # The old one's last answers, and what nginx answered by itself, are not the new one's.
        [line("OLD", 500)] * 60 + [line("", 429, "", upstream_status="")] * 60,
        ["no JSON\n", "[]\n", '{"release": "NEW"}\n', '{"status": 200}\n'] * 20,
    ],
    ids=["few", "fast-enough", "others", "garbled"],
)
def test_what_proves_nothing_changes_nothing(baked, visitors, lines):
    first, second = baked.put(1), baked.put(2)
    baked.serve(first)
    baked.access_log.write_text(line(first, seconds="0.010") * 60)
    visitors([one.replace("NEW", second).replace("OLD", first) for one in lines])
    baked.ok("activate", second)
    serves_alone(baked, second)


def test_bake_can_be_left_out_and_asked_for(baked):
    first, second = baked.put(1), baked.put(2)
    baked.serve(first)
    start = time.monotonic()
    assert "bake" not in baked.ok("activate", second, "--bake", "0")["phases"]
    assert time.monotonic() - start < 2
    baked.configure(bake_seconds=0)
    assert baked.ok("activate", first, "--bake", "0.5")["phases"]["bake"] >= 0.5
    assert baked.run("activate", first, "--bake", "-1").code == 5


def test_rollback_is_not_watched(baked):
    first, second = baked.put(1), baked.put(2)
    baked.serve(first, second)
    assert "bake" not in baked.ok("rollback")["phases"]


def test_watch_that_is_interrupted_switches_back(baked, monkeypatch):
    first, second = baked.put(1), baked.put(2)
    baked.serve(first)
    with monkeypatch.context() as patched:
        die_at(patched, bake._Watch, "look", 2, True, signal.SIGTERM)
        run = baked.run("activate", second)
    assert run.code == 3
    serves_alone(baked, first)


def test_watch_that_is_killed_is_begun_anew_by_the_next_run(baked, monkeypatch):
    first, second = baked.put(1), baked.put(2)
    baked.serve(first)
    with monkeypatch.context() as patched:
        die_at(patched, bake._Watch, "look", 2, True, signal.SIGKILL)
        os.waitpid(baked.fork("activate", second), 0)
    assert baked.links()[:2] == (second, first)
    assert baked.ok("activate", second)["phases"]["bake"] >= 2
    serves_alone(baked, second)


def test_what_is_too_old_does_not_count_for_the_release_before(tmp_path):
    path = tmp_path / "log"
    old = line("a", 500, age_seconds=traffic.LOOK_BACK_SECONDS + 60)
    path.write_text(old * 60 + line("a") * 2 + line("b"))
    before = Log(path).before("a", time.time())
    assert (before.count, before.errors) == (2, 0)


def test_what_nginx_had_kept_does_not_count_for_the_release_before(tmp_path):
    """It took no time: beside it every release would be slow."""
    path = tmp_path / "log"
    path.write_text(line("a", seconds="0.200") * 3 + line("a", seconds="", upstream_status="") * 97)
    before = Log(path).before("a", time.time())
    assert (before.count, before.p95_seconds) == (3, 0.2)


@pytest.mark.parametrize(
    ("upstream_status", "errors"), [("500", 1), ("502, 200", 0), ("200, 502", 1), ("-", 0)]
)
def test_error_that_a_kept_answer_covered_counts(upstream_status, errors):
    answers = Answers()
    answers.add(json.loads(line("a", 200, upstream_status=upstream_status)))
    assert answers.errors == errors


def test_log_is_followed_over_its_rotation_and_half_lines(tmp_path):
    path = tmp_path / "log"
    path.write_text(line("before"))
    log = Log(path)
    half = line("half")
    with path.open("a") as file:
        file.write(line("a") + half[:20])
    assert [one["release"] for one in log.lines()] == ["a"]
    with path.open("a") as file:
        file.write(half[20:])
    assert [one["release"] for one in log.lines()] == ["half"]
    path.rename(tmp_path / "log.1")
    assert list(log.lines()) == []
    path.write_text(line("c"))
    assert [one["release"] for one in log.lines()] == ["c"]


def test_share_and_speed_are_counted_right():
    answers = Answers()
    for number in range(100):
        answers.add(json.loads(line("a", 503 if number < 3 else 200, f"{(number + 1) / 1000:.3f}")))
    assert answers.error_share == 0.03
    assert answers.p95_seconds == 0.096
    assert (Answers().error_share, Answers().p95_seconds) == (0, 0)
