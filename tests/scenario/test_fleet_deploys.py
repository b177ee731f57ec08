"""A deploy over several hosts is one transaction: all of them serve the new release, or none does."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import yaml
from changes import HEADING, PAGE
from observing import actives, same, settled, status_of, statuses
from outages import in_container, unreachable
from target_host.shell import PROJECT_DIR
from testbed import durations, plays
from testbed.sites import until

# Where the release of every later deploy does not start, and what runs already goes on.
DROP_IN_DIR = "/run/systemd/system/inbox-web@.service.d"
TASKS_DIR = PROJECT_DIR / "roles/release/tasks"
# A playbook is killed as soon as it begins the last of these; with `--long`, any of those that touch a host.
STAGE, FIRST, OTHERS = BOUNDARIES = (
    "Put the release on the host",
    "Send traffic to the release on the first host",
    "Send traffic to the release",
)
# They only look at what is known on the controller.
UNTOUCHING = {f"ansible.builtin.{module}" for module in ("assert", "debug", "fail", "set_fact")}
# What follows a failure, and what a single host is deployed by.
NOT_HERE = ("settle.yml", "one.yml")


@pytest.fixture
def change(copied_app):
    """Return a function that makes a copy of the app that nobody has deployed yet."""
    return lambda: {"app_source": str(copied_app(PAGE, HEADING, f"{HEADING}<!-- {secrets.token_hex(6)} -->"))}


def tasks_of(name):
    """Return the role's tasks from one of its files on, in the order of a fleet's deploy that succeeds."""
    found = []
    for task in yaml.safe_load((TASKS_DIR / name).read_text()):
        brought = task.get("ansible.builtin.import_tasks") or task.get("ansible.builtin.include_tasks")
        if not brought:
            found.append(task)
        elif brought not in NOT_HERE:
            found += tasks_of(brought)
    return found


def steps():
    """Return the names of a deploy's tasks that touch a host, and of the last one of all."""
    tasks = tasks_of("deploy.yml")
    found = [task["name"] for task in tasks if not UNTOUCHING & task.keys()]
    assert len(set(found)) == len(found), found
    assert set(BOUNDARIES) < set(found), found
    return [*found, tasks[-1]["name"]]


def pytest_generate_tests(metafunc):
    if "boundary" in metafunc.fixturenames:
        is_long = metafunc.config.getoption("--long")
        metafunc.parametrize("boundary", steps() if is_long else [OTHERS])


def ledger(site):
    return json.loads(site.sudo(f"releasectl --app {site.app} --json log -n 100"))["entries"]


def migrations(site):
    return [entry["command"] for entry in ledger(site)].count("migrate")


def test_deploy_reaches_every_host_and_migrates_once(fleet, change):
    before = same(actives(fleet))
    migrated = [migrations(site) for site in fleet.apps]
    play = fleet.play("deploy", label="deploy over three hosts", extra=change()).ok()
    durations.record("fleet deploy of code alone over three hosts", play.seconds)
    active = settled(fleet)
    assert active != before
    assert same([status["previous"] for status in statuses(fleet)]) == before
    # At most: what the database has already is not applied again.
    assert sum(migrations(site) for site in fleet.apps) - sum(migrated) <= 1
    assert f"{active} serves on 3 hosts" in play.words
    assert "playbooks/rollback.yml" in play.words


def test_rollback_takes_every_host_back(fleet):
    before = same([status["previous"] for status in statuses(fleet)])
    play = fleet.play("rollback", label="rollback of three hosts").ok()
    durations.record("fleet rollback of three hosts", play.seconds)
    assert settled(fleet) == before


def test_one_host_that_fails_takes_every_host_back(fleet, change):
    before, bad = same(actives(fleet)), fleet.apps[1]
    bad.sudo(
        f"mkdir -p {DROP_IN_DIR} && printf '[Service]\\nExecStartPre=/usr/bin/false\\n' "
        f"> {DROP_IN_DIR}/broken.conf && systemctl daemon-reload"
    )
    try:
        play = fleet.play("deploy", label="deploy that fails on one host", extra=change())
    finally:
        bad.sudo(f"rm -r {DROP_IN_DIR} && systemctl daemon-reload")
    assert play.returncode == 2
    assert f"{bad.name}: failed; the old release serves (releasectl exit 2)" in play.words, play.tail()
    assert f"stopped because of {bad.name}; taken back: serves now: {before}" in play.words, play.tail()
    assert settled(fleet) == before
    results = [[entry["result"] for entry in ledger(site)][-2:] for site in fleet.apps]
    assert results[0] == ["done", "done"]
    assert results[1][-1] == "failed"


def test_of_two_deploys_begun_at_once_one_wins_and_the_other_touches_nothing(fleet, change):
    extras = [change(), change()]
    with ThreadPoolExecutor(2) as pool:
        begun = [
            pool.submit(fleet.play, "deploy", label=f"deploy at once {number}", extra=extra)
            for number, extra in enumerate(extras)
        ]
        done = [one.result() for one in begun]
    assert sorted(play.returncode for play in done) == [0, 2], [play.tail() for play in done]
    winner, loser = sorted(done, key=lambda play: play.returncode)
    active = settled(fleet)
    assert f"{active} serves on 3 hosts" in winner.words
    assert "refused: somebody else is at it (releasectl exit 4)" in loser.words, loser.tail()
    assert f"the lock is held by {ledger(fleet.apps[0])[-1]['by']} since" in loser.words
    assert f"(deploying {active})" in loser.words
    releases = [{entry["id"] for entry in status["releases"]} for status in statuses(fleet)]
    assert len(releases[0]) == len(releases[1]) == len(releases[2])


def begin(fleet, extra):
    """Begin a deploy; return the process, to be killed, and the file it writes to."""
    log = plays.LOG_DIR / f"{fleet.data.declaration.inventory_name}-killed-{secrets.token_hex(3)}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                PROJECT_DIR / ".venv/bin/ansible-playbook",
                *("-i", fleet.data.inventory.path, "playbooks/deploy.yml", "-e", json.dumps(extra)),
            ],
            cwd=PROJECT_DIR,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **plays.ENVIRONMENT},
            start_new_session=True,
        )
    return SimpleNamespace(process=process, log=log)


def is_begun(running, step):
    return f"TASK [release : {step}] *" in running.log.read_text()


def killed_at(fleet, extra, boundary):
    """Begin a deploy and kill it, with all its processes here, as soon as it begins a step."""
    running = begin(fleet, extra)
    assert until(180, lambda: is_begun(running, boundary) or running.process.poll() is not None, 0.05)
    # After the last step it may be done sooner than it is killed.
    assert running.process.poll() is None or boundary == steps()[-1], running.log.read_text()[-3000:]
    os.killpg(running.process.pid, signal.SIGKILL)
    running.process.wait()


def test_deploy_that_was_killed_is_finished_by_the_next(fleet, change, boundary):
    extra, before = change(), same(actives(fleet))
    killed_at(fleet, extra, boundary)
    for site in fleet.apps:
        assert site.web.get("/readyz").status == 200
    # What was begun on a host goes on there: the next run waits for nobody, and is told of it.
    time.sleep(1)
    until(60, lambda: not any(status["locked_by"] for status in statuses(fleet)), 1)
    fleet.play("deploy", label=f"deploy after one was killed at {boundary}", extra=extra).ok()
    assert settled(fleet) != before
    told = statuses(fleet)
    assert same(status["previous"] for status in told) == before
    assert [status["problems"] for status in told] == [[]] * 3
    same({entry["id"] for entry in status["releases"]} for status in told)
    token = (PROJECT_DIR / extra["app_source"] / PAGE).read_text().partition("<!-- ")[2][:12]
    assert all(token in site.web.get("/auth/sign-in").text for site in fleet.apps)


@pytest.mark.long
def test_host_that_freezes_half_way_is_told_of_and_mended_by_the_next_run(fleet, change):
    extra, frozen = change(), fleet.apps[2]
    before = same(actives(fleet))
    running = begin(fleet, extra)
    assert until(180, lambda: is_begun(running, FIRST), 0.05), running.log.read_text()[-2000:]
    in_container(frozen, "pkill -STOP sshd")
    try:
        assert running.process.wait(300) != 0
    finally:
        in_container(frozen, "pkill -CONT sshd")
    words = " ".join(running.log.read_text().split())
    assert f"{frozen.name}: unreachable: what serves there is not known" in words, words[-3000:]
    # What was on its way to the frozen host when the others went back must not move it alone.
    assert not until(15, lambda: actives(fleet) != [before] * 3, 1), actives(fleet)
    fleet.play("deploy", label="deploy after a host was frozen", extra=extra).ok()
    assert settled(fleet) != before


@pytest.mark.long
def test_deploy_without_one_of_its_hosts_touches_none_and_says_which(fleet, change):
    gone, before = fleet.apps[2], settled(fleet)
    books = [ledger(site) for site in fleet.apps]
    releases = [status["releases"] for status in statuses(fleet)]
    with unreachable(gone):
        play = fleet.play("deploy", label="deploy without one of its hosts", extra=change())
        assert gone.web.get("/readyz").status == 200
    assert play.returncode != 0
    assert f"fatal: [{gone.name}]: UNREACHABLE!" in play.words, play.tail()
    assert settled(fleet) == before
    assert [ledger(site) for site in fleet.apps] == books
    assert [status["releases"] for status in statuses(fleet)] == releases


@pytest.mark.long
def test_rollback_without_one_of_its_hosts_takes_the_others_back(fleet, change):
    fleet.play("deploy", label="deploy of what is fled from", extra=change()).ok()
    left, target = settled(fleet), same(status["previous"] for status in statuses(fleet))
    gone, *others = fleet.apps
    with unreachable(gone):
        play = fleet.play("rollback", label="rollback without one of its hosts")
        assert [status_of(site)["active"] for site in others] == [target] * 2
        assert gone.web.release() == left
    assert play.returncode != 0
    assert f"{gone.name}: no answer: what serves there is not known" in play.words, play.tail()
    told = f"playbooks/rollback.yml -e release_target={target}"
    assert told in play.words, play.tail()
    fleet.play("rollback", label="rollback of the one that was gone", extra={"release_target": target}).ok()
    assert settled(fleet) == target


def test_host_that_runs_out_of_room_half_way_keeps_every_host_on_the_old_release(fleet, change):
    extra, full, before = change(), fleet.apps[1], same(actives(fleet))
    incoming = f"/srv/{full.app}/incoming"
    # Less than a release's archive, and a look at the file system of the releases does not tell.
    full.sudo(f"mount -t tmpfs -o size=64k,mode=0700 tmpfs {incoming}")
    try:
        play = fleet.play("deploy", label="deploy to a host that runs out of room", extra=extra)
        assert play.returncode == 2
        assert f"{full.name}: releasectl broke off" in play.words, play.tail()
        assert "No space left on device" in play.words, play.tail()
        assert settled(fleet) == before
        full.sudo(f"mount -o remount,size=64m {incoming}")
        fleet.play("deploy", label="deploy once there is room", extra=extra).ok()
        assert settled(fleet) != before
    finally:
        full.sudo(f"umount {incoming}")
