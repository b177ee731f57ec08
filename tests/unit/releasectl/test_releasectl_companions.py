"""Celery's worker, beat and Flower follow where traffic goes."""

import json
import os
import shutil
import signal
import threading
import time

import pytest
from releasectl import clock, companions, edge, instance, layout, settling, starting, systemd
from releasectl.errors import Failed
from test_releasectl_activation import die_at

KINDS = ("worker", "beat", "flower")


@pytest.fixture
def site(apphost):
    """An app with a worker, a beat and a Flower."""
    apphost.configure(companions=list(KINDS))
    return apphost


@pytest.fixture
def pair(site):
    """Two releases, the first of them serving."""
    first, second = site.put(1), site.put(2)
    site.serve(first)
    return first, second


def unit(kind, release_id):
    return f"inbox-{kind}@{release_id}.service"


def all_of(release_id, kinds=KINDS):
    return {unit(kind, release_id) for kind in kinds} | {
        unit("web", release_id),
        f"inbox-web@{release_id}.socket",
    }


def pid(site, kind, release_id):
    return site.systemd.unit(unit(kind, release_id)).process.pid


def behave(site, release_id, **behaviour):
    (site.layout.release(release_id) / "src/behaviour.json").write_text(json.dumps(behaviour))


def runs_alone(site, release_id, kinds=KINDS):
    """See one release with traffic and all its units, and nothing of any other."""
    assert site.layout.active() == release_id
    wanted = all_of(release_id, kinds)
    assert clock.until(10, lambda: set(site.systemd.up()) == wanted), site.systemd.up()
    assert site.systemd.boot == wanted
    assert site.layout.shows_flower(release_id) is ("flower" in kinds)
    # A rollback waits for none of them.
    assert clock.until(10, lambda: site.ok("status")["problems"] == []), site.ok("status")["problems"]
    no_two_beats(site)


def no_two_beats(site):
    """See in the beats' own log that each ended before the next began."""
    lines = (site.run_dir / "beats.log").read_text().split()
    words, releases = lines[::2], lines[1::2]
    assert words == ["begins", "ends"] * (len(words) // 2) + ["begins"] * (len(words) % 2), lines
    assert releases[0:-1:2] == releases[1::2], lines


def test_first_activation_starts_the_companions(site):
    first = site.put(1)
    site.ok("activate", first)
    runs_alone(site, first)


def test_activation_hands_over_from_one_release_to_the_next(site, pair):
    first, second = pair
    site.ok("activate", second)
    runs_alone(site, second)
    assert site.links() == (second, second, first)
    site.ok("rollback")
    runs_alone(site, first)


def test_old_worker_is_stopped_once_the_new_one_consumes_and_the_new_beat_waits_for_the_old_one(site, pair):
    first, second = pair
    site.ok("activate", second)
    calls = [words for words in site.systemd.calls if words[1] in ("start", "stop")]
    told = [(words[1], name) for words in calls for name in words[2:]]
    order = [one for one in told if "-worker@" in one[1] or "-beat@" in one[1]]
    assert set(order[:2]) == {("start", unit("worker", second)), ("start", unit("beat", second))}
    assert order[2:] == [("stop", unit("beat", first)), ("stop", unit("worker", first))]
    no_two_beats(site)
    assert site.layout.held() == []


def test_worker_and_beat_import_beside_the_instance_and_flower_when_nobody_waits(site, pair):
    _first, second = pair
    site.ok("activate", second)
    asked = [words[-1] for words in site.systemd.calls if words[1] == "start" and second in words[-1]]
    assert asked[0] == f"inbox-web@{second}.socket"
    # Side by side: which of them systemd hears of first is nobody's concern.
    together = {f"inbox-web@{second}.service", unit("worker", second), unit("beat", second)}
    assert set(asked[1:4]) == together
    assert asked[4:] == [unit("flower", second)]


def test_beat_that_cannot_wait_is_started_when_the_old_one_has_stopped(site):
    first, second = site.put(1), site.put(2, modules=("celery/__init__.py", "flower/__init__.py"))
    site.serve(first)
    site.ok("activate", second)
    order = [words[-1] for words in site.systemd.calls if words[1] in ("start", "stop")]
    assert order.index(unit("beat", first)) < order.index(unit("beat", second))
    runs_alone(site, second)


@pytest.mark.parametrize("kind", ["worker", "beat"])
def test_companion_that_systemd_refuses_is_told_of_in_its_words(site, pair, kind):
    first, second = pair
    site.systemd.refuse.add(unit(kind, second))
    failed = site.run("activate", second)
    assert (failed.code, f"{unit(kind, second)} did not start: start refused" in failed.out) == (2, True)
    runs_alone(site, first)


def test_start_that_waits_behind_a_stop_is_withdrawn_with_the_release_that_failed(site, pair):
    first, second = pair
    behave(site, second, crash="boom")
    site.systemd.delay_stop = 1
    site.systemd.do_start([unit("worker", second)])
    stopping = threading.Thread(target=site.systemd.do_stop, args=([unit("worker", second)],))
    stopping.start()
    assert clock.until(5, lambda: site.systemd.unit(unit("worker", second)).active == "deactivating")
    assert site.run("activate", second).code == 2
    stopping.join()
    assert not clock.until(2, lambda: site.systemd.unit(unit("worker", second)).active == "active")
    runs_alone(site, first)


def test_flower_that_systemd_refuses_is_a_note_and_no_failure(site, pair, monkeypatch):
    _first, second = pair
    real = systemd.start_soon

    def refuse_flower(name):
        if "-flower@" in name:
            raise Failed("no such unit")
        real(name)

    monkeypatch.setattr(systemd, "start_soon", refuse_flower)
    assert any("no such unit" in remark for remark in site.ok("activate", second)["remarks"])
    assert clock.until(10, lambda: set(site.systemd.up()) == all_of(second, ("worker", "beat")))


def test_activation_does_not_wait_for_a_running_task(site):
    first, second = site.put(1, {"worker": {"task_seconds": 3}}), site.put(2)
    site.serve(first)
    site.ok("activate", second)
    assert site.systemd.unit(unit("worker", first)).active == "deactivating"
    told = {entry["unit"]: entry["state"] for entry in site.ok("status")["companions"]}
    assert told[unit("worker", first)].startswith("deactivating")
    assert f"of {first}" in site.run("status", json_form=False).out
    assert site.ok("status")["problems"] == []
    assert site.ok("activate", second)["changed"] is False
    runs_alone(site, second)


def test_release_that_is_come_back_to_works_again_once_its_last_task_is_done(site):
    first, second = site.put(1, {"worker": {"task_seconds": 2}}), site.put(2)
    site.serve(first)
    site.configure(start_timeout_seconds=1)
    site.ok("activate", second)
    assert site.systemd.unit(unit("worker", first)).active == "deactivating"
    site.ok("rollback")
    runs_alone(site, first)


@pytest.mark.parametrize(
    ("worker", "word"),
    [
        ({"crash": "ImportError: no module named 'billing.tasks'"}, "crashed before it was ready"),
        ({"hang": True}, "was not ready within 1 s"),
    ],
)
def test_release_whose_worker_does_not_get_ready_never_gets_traffic(site, worker, word):
    first, second = site.put(1), site.put(2, {"worker": worker})
    site.serve(first)
    site.configure(start_timeout_seconds=1)
    before = [pid(site, kind, first) for kind in KINDS]
    run = site.run("activate", second)
    assert (run.code, run.json["result"]) == (2, "failed")
    assert word in run.error["cause"]
    assert "traffic never moved" in run.error["cause"]
    assert run.error["next"] == f"sudo journalctl -u {unit('worker', second)} -n 200"
    assert f"booting worker of {second}" in " ".join(run.error["journal"])
    runs_alone(site, first)
    assert [pid(site, kind, first) for kind in KINDS] == before


@pytest.mark.parametrize(("held", "code"), [(False, 2), (True, 3)], ids=["imports", "reads its schedule"])
def test_release_whose_beat_does_not_start_gives_the_clock_back(site, pair, held, code):
    first, second = pair
    behave(site, second, beat={"crash": "KeyError: 'schedule'", "held": held}, worker={"start_seconds": 1})
    before = pid(site, "worker", first)
    run = site.run("activate", second)
    assert run.code == code
    assert "KeyError: 'schedule'" in run.error["journal"]
    runs_alone(site, first)
    assert pid(site, "worker", first) == before


def test_beat_that_does_not_stop_keeps_the_next_one_from_starting(site, pair, monkeypatch):
    _first, second = pair
    monkeypatch.setattr(companions.systemd, "stop", lambda unit, seconds: False)
    run = site.run("activate", second)
    assert run.code == 3
    assert "two beats must not tick" in run.error["cause"]
    assert f"begins {second}" not in (site.run_dir / "beats.log").read_text()


def test_flower_that_does_not_start_is_a_problem_and_no_failure(site, pair):
    first, second = pair
    behave(site, second, flower={"crash": "no socket"})
    site.ok("activate", second)
    assert site.links() == (second, second, first)

    def told():
        return " ".join(problem["problem"] for problem in site.ok("status")["problems"])

    assert clock.until(10, lambda: f"{unit('flower', second)} does not run" in told()), told()


@pytest.mark.parametrize(
    ("built", "words"), [({"modules": ()}, "no celery"), ({"celery": ""}, "built without app_celery")]
)
def test_release_from_before_celery_can_be_gone_back_to(site, pair, built, words):
    old, first = site.put(0, **built), pair[0]
    site.serve(old, first)
    told = site.ok("rollback")
    assert any(words in remark for remark in told["remarks"])
    assert clock.until(10, lambda: set(site.systemd.up()) == all_of(old, ())), site.systemd.up()
    assert any(words in problem["problem"] for problem in site.ok("status")["problems"])
    assert not site.layout.flower.is_symlink()


def test_rollback_moves_the_traffic_though_no_worker_gets_ready(site, pair):
    """As while the broker is away: what visitors flee from is worse."""
    old, first = site.put(0), pair[0]
    site.serve(old, first)
    behave(site, old, worker={"hang": True})
    site.configure(start_timeout_seconds=2)
    start = time.monotonic()
    site.ok("rollback")
    assert time.monotonic() - start < 2
    assert site.links() == (old, old, None)
    assert clock.until(10, lambda: unit("beat", old) in site.systemd.up()), site.systemd.up()
    no_two_beats(site)


def test_status_tells_of_a_worker_that_does_not_come_up_after_a_rollback(site, pair):
    old, first = site.put(0), pair[0]
    site.serve(old, first)
    behave(site, old, worker={"crash": "ConnectionError: broker"})
    site.ok("rollback")

    def told():
        return " ".join(problem["problem"] for problem in site.ok("status")["problems"])

    assert clock.until(10, lambda: f"{unit('worker', old)} does not run" in told()), told()


def test_status_tells_of_an_active_release_whose_folder_is_gone(site, pair):
    first, _ = pair
    shutil.rmtree(site.layout.release(first))
    told = site.ok("status")
    assert told["active"] == first
    assert told["problems"] != []


def test_app_without_companions_asks_nothing_of_celery(apphost):
    first, second = apphost.put(1), apphost.put(2)
    apphost.ok("activate", first)
    apphost.ok("activate", second)
    calls = [words for words in apphost.systemd.calls if any("-worker@" in word for word in words)]
    assert {words[1] for words in calls} <= {"show"}
    # Of all there are, that is: none by its name.
    named = {word for words in calls if words[1] == "show" for word in words[2:] if "-worker@" in word}
    assert named == {"inbox-worker@*"}
    assert apphost.ok("status")["companions"] == []


@pytest.mark.parametrize("kinds", [(), ("worker",), ("worker", "beat"), ("worker", "flower")])
@pytest.mark.parametrize("words", [["activate"], ["restart"]])
def test_companions_that_are_no_longer_asked_for_are_stopped(site, pair, kinds, words):
    first, _ = pair
    site.configure(companions=list(kinds))
    if kinds != KINDS:
        assert site.ok("status")["problems"] != []
    told = site.ok(*words, *([first] if words == ["activate"] else []))
    assert told["changed"] is True
    runs_alone(site, first, kinds)


@pytest.mark.parametrize("words", [["activate"], ["restart"]])
def test_companions_that_are_asked_for_from_now_on_are_started(apphost, words):
    first = apphost.put(1)
    apphost.serve(first)
    apphost.configure(companions=list(KINDS))
    assert apphost.ok(*words, *([first] if words == ["activate"] else []))["changed"] is True
    runs_alone(apphost, first)


def test_restart_gives_companions_the_settings_as_they_are_now(site):
    first = site.put(1, {"worker": {"task_seconds": 1}})
    site.serve(first)
    before = [pid(site, kind, first) for kind in KINDS]
    (site.root / "app.env").write_text("new")
    site.ok("restart")
    assert not set(before) & {pid(site, kind, first) for kind in KINDS}
    for kind in KINDS:
        journal = (site.systemd.folder / "journal" / unit(kind, first)).read_text()
        assert journal.splitlines()[-1] == f"booting {kind} of {first} with 'new'"
    runs_alone(site, first)


def test_restart_into_settings_that_break_the_worker_says_why(site, pair):
    first, _ = pair
    (site.root / "app.env").write_text("no worker")
    run = site.run("restart")
    assert run.code == 2
    assert "SettingsError: no such queue" in run.error["journal"]
    (site.root / "app.env").write_text("mended")
    site.ok("restart")
    runs_alone(site, first)


def test_restart_asks_for_all_companions_at_once_when_the_web_is_ready_again(site, pair):
    first, _ = pair
    site.configure(start_timeout_seconds=30)
    behave(site, first, **{kind: {"start_seconds": 5} for kind in KINDS})
    start = time.monotonic()
    site.ok("restart")
    # One after the other they could not be.
    assert time.monotonic() - start < 5 * len(KINDS)
    asked = [words[-1] for words in site.systemd.calls if words[1] in ("start", "stop", "restart")]
    assert asked == [unit(kind, first) for kind in ("web", *KINDS)]


@pytest.mark.parametrize("kind", ["worker", "beat"])
@pytest.mark.parametrize(
    ("behaviour", "word"),
    [
        ({"crash": "ImportError: no module named 'billing'"}, "crashed before it was ready"),
        ({"hang": True}, "was not ready within 1 s"),
    ],
)
def test_restart_names_the_companion_that_does_not_come_back(site, pair, kind, behaviour, word):
    first, _ = pair
    site.configure(start_timeout_seconds=1)
    behave(site, first, **{kind: behaviour})
    run = site.run("restart")
    assert run.code == 2
    assert word in run.error["cause"]
    assert run.error["next"] == f"sudo journalctl -u {unit(kind, first)} -n 200"
    assert f"booting {kind} of {first}" in " ".join(run.error["journal"])
    behave(site, first)
    site.ok("restart")
    runs_alone(site, first)


def test_restart_stops_a_stray_beat_before_its_own_ticks_again(site, pair):
    first, second = pair
    site.systemd.do_stop([unit("beat", first)])
    site.systemd.do_start([unit("beat", second)])
    site.ok("restart")
    runs_alone(site, first)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_killed_restart_is_done_again_by_the_next(site, pair, monkeypatch, count):
    first, _ = pair
    last = site.systemd.unit(unit(("web", *KINDS)[count - 1], first))
    before = last.invocation
    with monkeypatch.context() as patched:
        die_at(patched, systemd, "restart_soon", count, True, signal.SIGKILL)
        _, status = os.waitpid(site.fork("restart"), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert clock.until(10, lambda: last.active == "active" and last.invocation != before)
    (site.root / "app.env").write_text("new")
    site.ok("restart")
    for kind in KINDS:
        journal = (site.systemd.folder / "journal" / unit(kind, first)).read_text()
        assert journal.splitlines()[-1] == f"booting {kind} of {first} with 'new'"
    runs_alone(site, first)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda site, one: site.systemd.do_stop([unit("worker", one)]), "does not run"),
        (lambda site, one: site.systemd.do_stop([unit("beat", one)]), "does not run"),
        (lambda site, one: site.systemd.boot.discard(unit("worker", one)), "is not started at boot"),
        (lambda site, one: site.layout.flower.unlink(), "flower.sock"),
    ],
)
def test_status_names_what_is_wrong_with_a_companion_and_its_repair_works(site, pair, spoil, word):
    first, _ = pair
    spoil(site, first)
    problems = site.ok("status")["problems"]
    assert any(word in problem["problem"] for problem in problems), problems
    assert {problem["repair"] for problem in problems} == {f"sudo releasectl --app inbox activate {first}"}
    assert site.ok("activate", first)["changed"] is True
    runs_alone(site, first)
    assert site.ok("activate", first)["changed"] is False


def test_stray_companions_of_another_release_are_told_and_stopped(site, pair):
    first, second = pair
    site.systemd.do_start([unit("worker", second)])
    site.systemd.boot.add(unit("beat", second))
    words = [problem["problem"] for problem in site.ok("status")["problems"]]
    assert any(f"{unit('worker', second)} is active and not" in word for word in words)
    assert any(f"{unit('beat', second)} is started at boot" in word for word in words)
    site.ok("activate", first)
    runs_alone(site, first)


def test_prune_never_removes_a_release_whose_worker_runs_a_task(site):
    oldest, first, second = site.put(1, {"worker": {"task_seconds": 3}}), site.put(2), site.put(3)
    site.serve(oldest)
    site.ok("activate", first)
    site.ok("activate", second)
    assert site.systemd.unit(unit("worker", oldest)).active == "deactivating"
    assert site.ok("prune", "--keep", 1)["removed"] == []
    assert oldest in site.layout.staged()
    assert oldest in site.layout.kept_runtime()
    assert clock.until(10, lambda: site.systemd.unit(unit("worker", oldest)).active == "inactive")
    assert site.ok("prune", "--keep", 1)["removed"] == [oldest]
    assert oldest not in site.layout.kept_runtime()


def test_prune_tells_a_stray_worker_to_finish(site, pair):
    first, second = pair
    stray = site.put(3)
    site.serve(first, second)
    site.layout.ledger.open("a").write(
        json.dumps({"command": "activate", "release": stray, "result": "failed"})
    )
    site.systemd.do_start([unit("worker", stray)])
    assert site.ok("prune", "--keep", 1)["removed"] == []
    assert clock.until(10, lambda: site.systemd.unit(unit("worker", stray)).active == "inactive")
    assert site.ok("prune", "--keep", 1)["removed"] == [stray]


# Every step of an activation with companions that changes something: up to the switch, and from it on.
STEPS_BEFORE = [
    (starting.Start, "ask", 1),
    (starting.Start, "ask", 2),
    (starting.Start, "ask", 3),
    (instance, "wait_ready", 1),
    (starting, "wait", 1),
]
STEPS = [
    (layout, "point", 1),
    (edge, "see", 1),
    (systemd, "stop", 1),
    (companions, "_let_go", 1),
    (companions, "bring_up", 1),
    (systemd, "start_soon", 1),
    (systemd, "stop_soon", 1),
    (systemd, "stop_soon", 2),
    (layout, "point", 2),
    (companions, "follow", 1),
    (layout, "point", 3),
    (settling, "boot", 1),
    (instance, "drain", 1),
]


@pytest.mark.parametrize(
    ("module", "name", "count"), STEPS_BEFORE + STEPS, ids=lambda value: getattr(value, "__name__", value)
)
def test_killed_activation_is_taken_up_by_the_next(site, pair, monkeypatch, module, name, count):
    first, second = pair
    with monkeypatch.context() as patched:
        die_at(patched, module, name, count, True, signal.SIGKILL)
        _, status = os.waitpid(site.fork("activate", second), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    site.ok("activate", second)
    runs_alone(site, second)
    assert site.links() == (second, second, first)


@pytest.mark.parametrize(
    ("module", "name", "count"), STEPS[:5], ids=lambda value: getattr(value, "__name__", value)
)
def test_killed_activation_can_be_rolled_back(site, pair, monkeypatch, module, name, count):
    first, second = pair
    with monkeypatch.context() as patched:
        die_at(patched, module, name, count, True, signal.SIGKILL)
        os.waitpid(site.fork("activate", second), 0)
    site.ok("rollback")
    runs_alone(site, first)


@pytest.mark.parametrize(
    ("module", "name", "count", "code"),
    [
        (starting.Start, "ask", 1, 2),
        (starting.Start, "ask", 2, 2),
        (starting.Start, "ask", 3, 2),
        (systemd, "stop", 1, 3),
        (companions, "_let_go", 1, 3),
        (systemd, "stop_soon", 1, 0),
    ],
)
def test_interrupted_activation_cleans_up_or_finishes(site, pair, monkeypatch, module, name, count, code):
    first, second = pair
    with monkeypatch.context() as patched:
        die_at(patched, module, name, count, True, signal.SIGTERM)
        assert site.run("activate", second).code == code
    runs_alone(site, first if code else second)


def test_switching_back_is_not_kept_waiting_by_a_task_of_the_failed_release(site, pair):
    first, second = pair
    behave(site, second, worker={"task_seconds": 4}, beat={"crash": "boom", "held": True})
    start = time.monotonic()
    assert site.run("activate", second).code == 3
    assert time.monotonic() - start < 4
    runs_alone(site, first)
