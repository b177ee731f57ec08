"""Releases come and go under steady requests, and nobody notices but by what they show."""

from __future__ import annotations

import secrets
from types import SimpleNamespace

import pytest
from changes import HEADING, PAGE
from load import Load
from observing import failed_units, status_of, units_left, units_of
from testbed import durations


def changed(words: str) -> str:
    """Return a heading no release had before: the one of an earlier session would be built already."""
    return f"<h1>{words}</h1><!-- {secrets.token_hex(6)} -->"


@pytest.fixture(scope="module")
def same_again(site):
    """Deploy what runs."""
    before = status_of(site), site.pids()
    play = site.play("deploy", label="deploy of what runs").ok()
    durations.record(f"{site.name} deploy of what runs already", play.seconds)
    return SimpleNamespace(play=play, before=before, after=(status_of(site), site.pids()))


def test_deploy_of_what_runs_changes_nothing_and_says_so(same_again):
    assert same_again.play.changed == 0, same_again.play.changed_tasks
    assert "already active" in same_again.play.words, same_again.play.tail()


def test_deploy_of_what_runs_leaves_release_and_processes_alone(same_again):
    (before, pids), (after, pids_after) = same_again.before, same_again.after
    assert [entry["id"] for entry in after["releases"]] == [entry["id"] for entry in before["releases"]]
    assert pids_after == pids


@pytest.fixture(scope="module")
def story(site, copied_app):
    """Deploy a change, go back, deploy another, restart, all under load; return what was seen."""
    seen = SimpleNamespace(pages={}, active=[status_of(site)["active"]], workers=[site.nginx_workers()])
    first = copied_app(PAGE, HEADING, changed("The first change"))
    second = copied_app(PAGE, HEADING, changed("The second change"))

    def step(words, act):
        with durations.measured(f"{site.name} {words}, under load"):
            act()
        seen.active.append(status_of(site)["active"])
        seen.pages[words] = site.web.get("/auth/sign-in").text
        assert load.wait_for(10, seen.active[-1]), f"{words}: nobody sees {seen.active[-1]}; {load.words}"

    with Load(site) as load:
        step("deploy of a change", lambda: site.play("deploy", extra={"app_source": str(first)}).ok())
        step("rollback", lambda: site.play("rollback").ok())
        step("second deploy", lambda: site.play("deploy", extra={"app_source": str(second)}).ok())
        step("restart", lambda: site.sudo(f"releasectl --app {site.app} restart"))
    seen.workers.append(site.nginx_workers())
    seen.load, seen.stored = load, load.stored()
    site.say(f"{site.name} load: {load.words}")
    durations.record(f"{site.name} slowest answer under deploys", load.slowest_seconds)
    return seen


def test_no_request_is_lost_over_deploys_a_rollback_and_a_restart(story):
    assert story.load.failures == [], story.load.words
    # What was asked, on kept connections and on new ones.
    assert len(story.load.answers) == 6, story.load.words
    assert min(story.load.answers.values()) > 50, story.load.words


def test_no_message_is_lost_or_stored_twice(story):
    assert story.stored == (len(story.load.posted), len(story.load.posted)), story.load.words
    assert len(story.load.posted) > 100, story.load.words


def test_every_release_answered_the_public(story):
    assert len(set(story.active)) == 3, story.active
    assert set(story.load.releases) == set(story.active), story.load.words


def test_each_change_is_what_visitors_see(story):
    assert "The first change" in story.pages["deploy of a change"]
    assert HEADING in story.pages["rollback"]
    assert "The second change" in story.pages["second deploy"]
    assert "The second change" in story.pages["restart"]


def test_rollback_returns_to_the_release_before(story):
    assert story.active[2] == story.active[0]
    assert story.active[3] not in story.active[:3]


def test_restart_keeps_the_release(story):
    assert story.active[4] == story.active[3]


def test_nginx_is_never_reloaded_for_a_release(story):
    assert story.workers[1] == story.workers[0]


def test_only_the_active_release_is_left_running(site, story):
    active = story.active[-1]
    assert units_left(site) == units_of(site.app, active)
    assert failed_units(site) == ""


def test_code_only_deploy_ships_no_dependencies(site, story, copied_app):
    """The figure that counts: no load, one host, dependencies there already."""
    source = copied_app(PAGE, HEADING, changed("Only code"))
    before = status_of(site)
    play = site.play("deploy", extra={"app_source": str(source)}, label="deploy of code alone").ok()
    durations.record(f"{site.name} deploy of code alone", play.seconds)
    after = status_of(site)
    assert after["active"] != before["active"]
    assert after["deps"] == before["deps"]
    assert "deps-" not in play.output, play.tail()
