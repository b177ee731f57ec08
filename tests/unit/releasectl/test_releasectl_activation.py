"""Traffic moves to a release that is ready, or does not move, or moves back."""

import json
import os
import secrets
import signal
import socket
import threading
import time

import pytest
from releasectl import clock, companions, edge, instance, layout, starting, systemd


def pair(release_id):
    return {f"inbox-web@{release_id}.service", f"inbox-web@{release_id}.socket"}


def serves_alone(apphost, release_id):
    """See that one release has traffic, links, boot and units, and no other has anything."""
    assert apphost.layout.active() == release_id
    assert apphost.layout.linked(apphost.layout.current) == release_id
    # Nobody waits for an instance without connections to leave.
    assert clock.until(10, lambda: set(apphost.systemd.up()) == pair(release_id)), apphost.systemd.up()
    assert apphost.systemd.boot == pair(release_id)
    assert apphost.layout.draining() == []
    status = apphost.ok("status")
    assert status["serving"]["ready"] is True
    assert [p for p in status["problems"] if "staging" not in p["problem"]] == []


def test_first_activation_serves(edged):
    first = edged.put(1)
    told = edged.ok("activate", first)
    assert (told["result"], told["changed"], told["previous"]) == ("activated", True, None)
    serves_alone(edged, first)
    assert edged.nginx.pass_on("/version", "x")[0] == 200
    assert edged.nginx.names == {"inbox.localhost"}


def test_second_activation_retires_the_first(edged):
    first, second = edged.put(1), edged.put(2)
    edged.serve(first)
    told = edged.ok("activate", second)
    assert told["retired"] == [first]
    serves_alone(edged, second)
    assert edged.links() == (second, second, first)


def test_activating_the_active_release_changes_nothing(edged):
    first = edged.put(1)
    edged.ok("activate", first)
    told = edged.ok("activate", first)
    assert (told["result"], told["changed"]) == ("already active", False)
    assert len(edged.ledger()) == 1


def test_no_request_is_lost_over_activations_and_a_restart(edged, load):
    begin, end = load
    first, second = edged.put(1), edged.put(2)
    edged.serve(first)
    begin()
    for words in (["activate", second], ["restart"], ["rollback"], ["activate", second]):
        edged.ok(*words)
    answers = end()
    assert len(answers) > 100
    assert set(answers) == {200}


def test_request_in_flight_is_answered_by_the_release_it_reached(edged):
    first, second = edged.put(1), edged.put(2)
    edged.serve(first)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(edged.nginx.pass_on("/slow", "x")))
    thread.start()
    time.sleep(0.2)
    edged.ok("activate", second)
    thread.join()
    assert answers[0][0] == 200
    assert first in answers[0][1].decode()


def test_unknown_release_is_refused_and_the_staged_ones_are_named(apphost):
    first = apphost.put(1)
    run = apphost.run("activate", "20260101T000000Z-0000000")
    assert run.code == 5
    assert first in run.error["cause"]
    assert apphost.systemd.up() == []


@pytest.mark.parametrize(
    ("behaviour", "word"),
    [
        ({"crash": "ModuleNotFoundError: no module named 'billing'"}, "crashed before it was ready"),
        ({"ready": False}, "was not ready within"),
        ({"names": "20250101T000000Z-fffffff"}, "was not ready within"),
        ({"hang": True}, "was not ready within"),
    ],
)
def test_release_that_does_not_get_ready_never_gets_traffic(edged, load, behaviour, word):
    begin, end = load
    first, second = edged.put(1), edged.put(2, behaviour)
    edged.serve(first)
    edged.configure(start_timeout_seconds=1)
    begin()
    run = edged.run("activate", second)
    assert (run.code, run.json["result"]) == (2, "failed")
    assert word in run.error["cause"]
    assert "traffic never moved" in run.error["cause"]
    assert set(end()) == {200}
    serves_alone(edged, first)
    assert edged.ledger()[-1]["result"] == "failed"


def test_failure_brings_its_evidence(apphost):
    second = apphost.put(2, {"crash": "ModuleNotFoundError: no module named 'billing'"})
    run = apphost.run("activate", second)
    assert "ModuleNotFoundError: no module named 'billing'" in run.error["journal"]
    assert run.error["next"] == f"sudo journalctl -u inbox-web@{second}.service -n 200"
    words = apphost.run("activate", second, json_form=False)
    assert "no module named 'billing'" in words.err
    assert f"next: sudo journalctl -u inbox-web@{second}.service" in words.err
    apphost.configure(start_timeout_seconds=1)
    third = apphost.run("activate", apphost.put(3, {"ready": False}))
    assert "503" in third.error["health"]
    assert "not_ready" in third.error["health"]


def test_first_activation_that_fails_leaves_nothing(apphost):
    run = apphost.run("activate", apphost.put(1, {"crash": "boom"}))
    assert run.code == 2
    assert apphost.links() == (None, None, None)
    assert apphost.systemd.up() == []
    assert apphost.systemd.boot == set()


@pytest.mark.parametrize(
    ("behaviour", "word"),
    [
        ({"crash_on_traffic": True}, "crashed as soon as it got traffic"),
        ({"edge_status": 500}, "did not answer as"),
    ],
)
def test_release_that_fails_at_the_edge_is_switched_back(edged, behaviour, word):
    first, second = edged.put(1), edged.put(2, behaviour)
    edged.serve(first)
    edged.configure(edge_timeout_seconds=1)
    run = edged.run("activate", second)
    assert (run.code, run.json["result"]) == (3, "switched back")
    assert word in run.error["cause"]
    serves_alone(edged, first)
    assert edged.links() == (first, first, None)
    assert edged.nginx.pass_on("/version", "x")[0] == 200


def test_switching_back_does_not_restart_the_old_instance(edged):
    first, second = edged.put(1), edged.put(2, {"edge_status": 500})
    edged.serve(first)
    edged.configure(edge_timeout_seconds=1)
    before = edged.systemd.unit(f"inbox-web@{first}.service").process.pid
    assert edged.run("activate", second).code == 3
    assert edged.systemd.unit(f"inbox-web@{first}.service").process.pid == before


def test_first_activation_that_fails_at_the_edge_leaves_nothing(edged):
    edged.configure(edge_timeout_seconds=1)
    run = edged.run("activate", edged.put(1, {"edge_status": 500}))
    assert run.code == 3
    assert not edged.layout.upstream.is_symlink()
    assert edged.systemd.up() == []


def test_active_release_that_died_is_started_again(apphost):
    first = apphost.put(1)
    apphost.serve(first)
    apphost.systemd.do_stop([f"inbox-web@{first}.service"])
    assert apphost.ok("status")["serving"]["ready"] is False
    told = apphost.ok("activate", first)
    assert told["changed"] is True
    serves_alone(apphost, first)


def test_active_release_left_draining_is_repaired(apphost):
    first = apphost.put(1)
    apphost.serve(first)
    apphost.layout.drain_file(first).touch()
    problems = apphost.ok("status")["problems"]
    assert any(f"activate {first}" in problem["repair"] for problem in problems)
    assert apphost.ok("activate", first)["changed"] is True
    serves_alone(apphost, first)


def test_release_that_crashes_while_old_one_is_dead_reports_and_keeps_the_link(apphost):
    first, second = apphost.put(1), apphost.put(2, {"crash": "boom"})
    apphost.serve(first)
    apphost.systemd.do_stop([f"inbox-web@{first}.socket"])
    assert apphost.run("activate", second).code == 2
    assert apphost.layout.active() == first


def test_dead_active_release_can_be_replaced(edged):
    first, second = edged.put(1), edged.put(2)
    edged.serve(first)
    edged.systemd.do_stop([f"inbox-web@{first}.socket"])
    edged.ok("activate", second)
    serves_alone(edged, second)


def test_drain_gives_up_after_its_time(apphost):
    first, second = apphost.put(1), apphost.put(2)
    apphost.serve(first)
    apphost.configure(drain_timeout_seconds=0.3)
    with socket.socket(socket.AF_UNIX) as held:
        held.connect(str(apphost.layout.socket(first)))
        assert instance.connections(apphost.layout.socket(first)) == 1
        told = apphost.ok("activate", second)
    assert "1 connections" in told["remarks"][0]
    serves_alone(apphost, second)


@pytest.fixture
def crashed(apphost):
    """Return an active release that has crashed, its unit, and another one to leave it for."""
    first, second = apphost.put(1), apphost.put(2)
    apphost.serve(first)
    unit = apphost.systemd.unit(f"inbox-web@{first}.service")
    unit.process.kill()
    assert clock.until(5, lambda: unit.sub == "auto-restart")
    # Longer than the drain of one that does not come back would be waited for.
    apphost.configure(drain_timeout_seconds=30)
    return first, unit, second


def test_who_waits_in_the_queue_of_a_crashed_instance_is_answered_before_it_is_stopped(apphost, crashed):
    first, _, second = crashed

    def start_again():
        clock.until(20, apphost.layout.drain_file(first).exists)
        time.sleep(0.5)
        apphost.systemd.do_start([f"inbox-web@{first}.service"])

    again = threading.Thread(target=start_again)
    again.start()
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(str(apphost.layout.socket(first)))
        visitor.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")
        visitor.settimeout(5)
        assert apphost.ok("activate", second)["remarks"] == []
        assert visitor.recv(65536).startswith(b"HTTP/1.1 200 ")
    again.join()
    serves_alone(apphost, second)


def test_instance_that_crashes_again_and_again_is_not_waited_for(apphost, crashed):
    first, unit, second = crashed

    def crash_on():
        while unit.active == "activating":
            unit.invocation = secrets.token_hex(16)
            time.sleep(0.1)

    looping = threading.Thread(target=crash_on)
    looping.start()
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(str(apphost.layout.socket(first)))
        began = time.monotonic()
        assert "1 connections" in apphost.ok("activate", second)["remarks"][0]
        assert time.monotonic() - began < 20
    looping.join()
    serves_alone(apphost, second)


def test_old_socket_is_stopped_before_its_service(apphost):
    first, second = apphost.put(1), apphost.put(2)
    apphost.serve(first)
    apphost.ok("activate", second)
    stops = [words[2:] for words in apphost.systemd.calls if words[1] == "stop"]
    assert stops == [["--no-block", f"inbox-web@{first}.socket", f"inbox-web@{first}.service"]]


# Every step of an activation that changes something, in order, as (module, function, which call of it).
# Killed right after one is killed right before the next.
STEPS = [
    (systemd, "start", 1),
    (starting.Start, "ask", 1),
    (systemd, "enable", 1),
    (layout, "point", 1),
    (edge, "see", 1),
    (layout, "point", 2),
    (layout, "point", 3),
    (systemd, "disable", 1),
    (instance, "drain", 1),
    (systemd, "stop_soon", 1),
]


def die_at(monkeypatch, module, name, count, late, number):
    """Have the process send itself a signal at the nth call of a function."""
    real, seen = getattr(module, name), []

    def wrapped(*words, **named):
        seen.append(1)
        if len(seen) == count and not late:
            os.kill(os.getpid(), number)
        result = real(*words, **named)
        if len(seen) == count and late:
            os.kill(os.getpid(), number)
        return result

    monkeypatch.setattr(module, name, wrapped)


@pytest.mark.parametrize(
    ("module", "name", "count"), STEPS, ids=lambda value: getattr(value, "__name__", value)
)
def test_killed_activation_is_taken_up_by_the_next(edged, monkeypatch, module, name, count):
    first, second = edged.put(1), edged.put(2)
    edged.serve(first)
    with monkeypatch.context() as patched:
        die_at(patched, module, name, count, True, signal.SIGKILL)
        _, status = os.waitpid(edged.fork("activate", second), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert edged.nginx.pass_on("/version", "x")[0] == 200
    edged.ok("activate", second)
    serves_alone(edged, second)
    assert edged.links() == (second, second, first)


def test_service_that_systemd_refuses_to_start_is_not_waited_for(edged):
    first, second = edged.put(1), edged.put(2)
    edged.serve(first)
    edged.systemd.refuse.add(f"inbox-web@{second}.service")
    began = time.monotonic()
    failed = edged.run("activate", second)
    assert (failed.code, time.monotonic() - began < edged.settings["start_timeout_seconds"] / 2) == (2, True)
    assert "did not start: start refused" in failed.out
    serves_alone(edged, first)


def test_start_that_systemd_has_not_heard_of_yet_does_not_come_after_the_stop(tmp_path, monkeypatch):
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\n[ $1 = stop ] || {{ sleep 0.3; touch {tmp_path}/started; }}\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    order = systemd.Order("late.service")
    assert order.pending
    assert systemd.stop("late.service", 5)
    assert (order.pending, order.refusal) == (False, "")
    time.sleep(0.6)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("state", ["deactivating", "activating"])
@pytest.mark.parametrize("words", [["activate"], ["restart"]])
def test_instance_that_a_killed_run_left_on_its_way_is_waited_for(edged, monkeypatch, words, state):
    first = edged.put(1, {"start_seconds": 2})
    edged.serve(first)
    edged.configure(idle_close_seconds=1.5)
    edged.systemd.delay_stop = 0.5
    with monkeypatch.context() as patched:
        die_at(patched, systemd, "restart_soon", 1, True, signal.SIGKILL)
        os.waitpid(edged.fork("restart"), 0)
    service = edged.systemd.unit(f"inbox-web@{first}.service")
    assert clock.until(5, lambda: service.active == state)
    (edged.root / "app.env").write_text("new")
    edged.ok(*words, *([first] if words == ["activate"] else []))
    serves_alone(edged, first)
    if words == ["restart"]:
        assert b'"setting": "new"' in edged.nginx.pass_on("/version", "x")[1]


@pytest.mark.parametrize(
    ("module", "name", "count", "code", "number"),
    [
        (systemd, "start", 1, 2, signal.SIGTERM),
        (systemd, "enable", 1, 2, signal.SIGINT),
        (layout, "point", 1, 3, signal.SIGTERM),
        (edge, "see", 1, 3, signal.SIGINT),
        (layout, "point", 2, 0, signal.SIGTERM),
        (instance, "drain", 1, 0, signal.SIGINT),
    ],
)
def test_interrupted_activation_cleans_up_or_finishes(edged, monkeypatch, module, name, count, code, number):
    first, second = edged.put(1), edged.put(2)
    edged.serve(first)
    with monkeypatch.context() as patched:
        # `edge.see` before it looks, all others once they are done.
        die_at(patched, module, name, count, name != "see", number)
        assert edged.run("activate", second).code == code
    serves_alone(edged, first if code else second)
    assert edged.ledger()[-1]["exit"] == code


def test_lost_terminal_does_not_stop_an_activation(edged, monkeypatch):
    first = edged.put(1)
    die_at(monkeypatch, layout, "point", 1, True, signal.SIGHUP)
    edged.ok("activate", first)
    serves_alone(edged, first)


def test_systemd_that_refuses_to_enable_fails_before_the_switch(apphost):
    first, second = apphost.put(1), apphost.put(2)
    apphost.serve(first)
    apphost.systemd.refuse = {"enable"}
    run = apphost.run("activate", second)
    assert run.code == 2
    assert "enable" in run.error["cause"]
    serves_alone(apphost, first)


def test_journal_of_a_failed_start_is_told_as_people_read_it():
    importing = '  File "<frozen importlib._bootstrap>", line 1, in _load'
    trace = "\n".join(["Traceback", *(f"  call {number}" for number in range(9)), importing, "KeyError: 'x'"])
    line = {
        "timestamp": "…",
        "level": "critical",
        "event": "uncaught exception",
        "pid": 7,
        "exception": trace,
    }
    told = starting.readable(json.dumps(line))
    assert told[:2] == ["critical: uncaught exception pid=7", "  …"]
    assert told[2:] == [*(f"    call {number}" for number in range(2, 9)), "  KeyError: 'x'"]
    for plain in ("Main process exited", "{", "7", '{"a": 1}'):
        assert starting.readable(plain) == [plain]


@pytest.mark.parametrize("bake", [[], ["--bake", "5"]], ids=["unwatched", "watched"])
def test_instance_that_crashed_and_was_started_again_is_not_taken_for_well(edged, monkeypatch, bake):
    """systemd's restart answers as the first one did."""
    first, second = edged.put(1), edged.put(2)
    edged.serve(first)
    real = companions.bring_up

    def crash(host, release_id):
        edged.systemd.do_restart([f"inbox-web@{release_id}.service"])
        return real(host, release_id)

    monkeypatch.setattr(companions, "bring_up", crash)
    run = edged.run("activate", *bake, second)
    assert run.code == 3
    assert f"inbox-web@{second}.service crashed after it was ready" in run.error["cause"]
    assert edged.layout.active() == first
