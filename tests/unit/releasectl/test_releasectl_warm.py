"""The release that was left goes on without traffic for a while, and is gone back to at once."""

import time

import pytest
from releasectl import clock, systemd
from test_releasectl_activation import pair, serves_alone

# Stands where systemd-run would be: that the time comes is systemd's affair, and proven on a host.
SYSTEMD_RUN = '#!/bin/sh\necho "$@" >> {calls}\nexit {code}\n'


@pytest.fixture
def warm(edged):
    edged.timers = edged.base / "timers"

    def schedule(code=0):
        path = edged.systemd.folder / "systemd-run"
        path.write_text(SYSTEMD_RUN.format(calls=edged.timers, code=code))
        path.chmod(0o755)

    edged.schedule = schedule
    schedule()
    edged.configure(warm_seconds=60, start_timeout_seconds=10)
    return edged


def pid(warm, release_id):
    return warm.systemd.unit(f"inbox-web@{release_id}.service").process.pid


def over(warm, release_id):
    """Let a release have been kept for long enough."""
    warm.layout.warm_file(release_id).write_text(f"{time.time() - 1:.0f}")


def test_release_that_was_left_runs_on_and_no_problem_is_seen_in_it(warm):
    first, second = warm.put(1), warm.put(2)
    warm.serve(first)
    before = pid(warm, first)
    told = warm.ok("activate", second)
    assert told["retired"] == [first]
    assert set(warm.systemd.up()) == pair(first) | pair(second)
    assert pid(warm, first) == before
    status = warm.ok("status")
    assert status["problems"] == []
    assert clock.parse(status["warm"][first]) == pytest.approx(time.time() + 60, abs=5)
    assert f"warm      {first} until" in warm.run("status", json_form=False).out
    assert warm.systemd.boot == pair(second)
    assert "releasectl --app inbox cool" in warm.timers.read_text()


def test_rollback_to_a_warm_release_starts_nothing(warm):
    # Were it started, it would take three seconds.
    first, second = warm.put(1, {"start_seconds": 3}), warm.put(2)
    warm.serve(first)
    warm.ok("activate", second)
    before, start = pid(warm, first), time.monotonic()
    told = warm.ok("rollback")
    assert time.monotonic() - start < 3
    assert told["release"] == first
    assert pid(warm, first) == before
    # What was gone back from is not kept.
    serves_alone(warm, first)


def test_no_request_is_lost_on_the_way_to_a_warm_release_and_back(warm, load):
    begin, end = load
    first, second = warm.put(1), warm.put(2)
    warm.serve(first)
    begin()
    for words in (["activate", second], ["rollback"], ["activate", second], ["activate", first]):
        warm.ok(*words)
    assert set(end()) == {200}


def test_activating_again_leaves_a_warm_release_alone(warm):
    first, second = warm.put(1), warm.put(2)
    warm.serve(first)
    warm.ok("activate", second)
    told = warm.ok("activate", second)
    assert (told["changed"], told["result"]) == (False, "already active")
    assert set(warm.systemd.up()) == pair(first) | pair(second)


def test_next_deploy_stops_the_warm_release_first(warm):
    first, second, third = warm.put(1), warm.put(2), warm.put(3)
    warm.serve(first)
    warm.ok("activate", second)
    warm.ok("activate", third)
    assert clock.until(10, lambda: set(warm.systemd.up()) == pair(second) | pair(third))


def test_warm_release_is_stopped_when_its_time_is_over(warm):
    first, second = warm.put(1), warm.put(2)
    warm.serve(first)
    warm.ok("activate", second)
    assert warm.ok("cool")["changed"] is False
    over(warm, first)
    assert [problem["problem"] for problem in warm.ok("status")["problems"]] == [
        f"{first} runs and gets no traffic"
    ]
    assert warm.ok("cool")["retired"] == [first]
    serves_alone(warm, second)


def test_warm_release_whose_time_is_over_is_started_anew(warm):
    first, second = warm.put(1), warm.put(2)
    warm.serve(first)
    warm.ok("activate", second)
    before = pid(warm, first)
    over(warm, first)
    warm.ok("rollback")
    assert pid(warm, first) != before
    serves_alone(warm, first)


def test_warm_release_that_is_not_ready_any_more_is_started_anew(warm):
    first, second = warm.put(1, {"unready_after_seconds": 0.5}), warm.put(2)
    warm.serve(first)
    warm.ok("activate", second)
    before = pid(warm, first)
    time.sleep(0.6)
    (warm.layout.release(first) / "src/behaviour.json").write_text("{}")
    warm.ok("rollback")
    assert pid(warm, first) != before


def test_settings_that_changed_leave_nothing_warm(warm):
    first, second = warm.put(1), warm.put(2)
    warm.serve(first)
    warm.ok("activate", second)
    warm.ok("restart")
    serves_alone(warm, second)


def test_release_that_failed_is_not_kept_warm(warm):
    first, second = warm.put(1), warm.put(2, {"crash_on_traffic": True})
    warm.serve(first)
    assert warm.run("activate", second).code == 3
    serves_alone(warm, first)


def test_nobody_to_stop_it_is_a_remark(warm):
    first, second = warm.put(1), warm.put(2)
    warm.serve(first)
    warm.schedule(code=1)
    (remark,) = warm.ok("activate", second)["remarks"]
    assert remark == f"nobody will stop {first} when its time is over: sudo releasectl --app inbox cool"


def test_command_that_is_to_run_later_needs_systemd(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    assert systemd.run_later("inbox-cool-1", 5, ["true"]) is False
