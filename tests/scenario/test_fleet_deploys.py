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
from observing import failed_units, status_of, units_left, units_of
from target_host.shell import PROJECT_DIR
from testbed import durations, plays
from testbed.sites import until

PAGE = "src/inbox/templates/auth/sign_in.html"
HEADING = "<h1>Sign in</h1>"
# Where the release of every later deploy does not start, and what runs already goes on.
DROP_IN_DIR = "/run/systemd/system/inbox-web@.service.d"
# A playbook is killed as soon as it has begun one of these.
BOUNDARIES = ("Put the release on the host", "Send traffic to the release on the first host", "batch.yml")


@pytest.fixture
def change(copied_app):
    """Return a function that makes a copy of the app that nobody has deployed yet."""
    return lambda: {"app_source": str(copied_app(PAGE, HEADING, f"{HEADING}<!-- {secrets.token_hex(6)} -->"))}


def statuses(fleet):
    return [status_of(site) for site in fleet.apps]


def actives(fleet):
    return [status["active"] for status in statuses(fleet)]


def same(values):
    """Return what all of them are; fail where they differ."""
    assert len(set(values)) == 1, values
    return values[0]


def ledger(site):
    return json.loads(site.sudo(f"releasectl --app {site.app} --json log -n 100"))["entries"]


def migrations(site):
    return [entry["command"] for entry in ledger(site)].count("migrate")


def settled(fleet):
    """See that every host serves one release, alone, with nobody's lock and nothing failed."""
    told = statuses(fleet)
    active = same([status["active"] for status in told])
    assert [status["deploy_lock"] for status in told] == [None] * len(told)
    for site in fleet.apps:
        # A Flower that was left may take until its time limit: it hears Redis over TLS, and listens on.
        left = [unit for unit in units_left(site) if "-flower@" not in unit or active in unit]
        assert left == units_of(site.app, active)
        assert failed_units(site) == ""
        assert f'"release": "{active}"' in site.web.get("/version").text.replace('":"', '": "')
    return active


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
    log = plays.LOG_DIR / f"{fleet.data.declaration.fleet_name}-killed-{secrets.token_hex(3)}.log"
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


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_deploy_that_was_killed_is_finished_by_the_next(fleet, change, boundary):
    extra = change()
    killed = begin(fleet, extra)
    assert until(180, lambda: boundary in killed.log.read_text() or killed.process.poll() is not None, 0.05)
    assert killed.process.poll() is None, killed.log.read_text()[-3000:]
    os.killpg(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    for site in fleet.apps:
        assert site.web.get("/readyz").status == 200
    # What was begun on a host goes on there: the next run waits for nobody, and is told of it.
    time.sleep(1)
    until(60, lambda: not any(status["locked_by"] for status in statuses(fleet)), 1)
    fleet.play("deploy", label=f"deploy after one was killed at {boundary}", extra=extra).ok()
    active = settled(fleet)
    page = (PROJECT_DIR / extra["app_source"] / PAGE).read_text()
    assert page.partition("<!-- ")[2][:12] in fleet.apps[2].web.get("/auth/sign-in").text, active
