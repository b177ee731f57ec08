"""site.yml on a host that is as it should be, or only asked what it would do: nothing happens."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from testbed import durations, fingerprint


@pytest.fixture(scope="module")
def second_run(site):
    """Run site.yml once more and return what was before and after."""
    before, workers = site.pids(), site.nginx_workers()
    play = site.play("site", label="second site.yml").ok()
    durations.record(f"{site.name} second site.yml", play.seconds)
    return SimpleNamespace(
        play=play, before=before, after=site.pids(), workers=(workers, site.nginx_workers())
    )


@pytest.mark.every_release
def test_second_run_changes_nothing(second_run):
    assert second_run.play.changed == 0, second_run.play.changed_tasks


@pytest.mark.every_release
def test_second_run_restarts_and_reloads_nothing(second_run):
    # nginx, PostgreSQL, Redis and the one web unit.
    assert len(second_run.before) == 4, second_run.before
    assert second_run.after == second_run.before
    assert second_run.workers[1] == second_run.workers[0]


@pytest.fixture(scope="module")
def dry_run(site):
    """Run site.yml with --check --diff and return what was before and after."""
    before, pids = fingerprint.take(site), site.pids()
    play = site.play("site", "--check", "--diff", label="site.yml --check --diff")
    durations.record(f"{site.name} site.yml --check --diff", play.seconds)
    differences = fingerprint.differences(before, fingerprint.take(site))
    return SimpleNamespace(play=play, differences=differences, pids=(pids, site.pids()))


@pytest.mark.every_release
def test_dry_run_on_a_converged_host_is_clean(dry_run):
    dry_run.play.ok()
    assert dry_run.play.changed == 0, dry_run.play.changed_tasks


@pytest.mark.every_release
def test_dry_run_on_a_converged_host_changes_nothing(dry_run):
    assert dry_run.differences == []
    assert dry_run.pids[1] == dry_run.pids[0]


@pytest.fixture(scope="module")
def fresh_dry_run(plain):
    """Run site.yml with --check --diff on plain Debian."""
    before = fingerprint.take(plain)
    play = plain.play("site", "--check", "--diff", label="site.yml --check --diff on a fresh host")
    durations.record(f"{plain.name} site.yml --check --diff on a fresh host", play.seconds)
    return SimpleNamespace(play=play, differences=fingerprint.differences(before, fingerprint.take(plain)))


def test_dry_run_on_a_fresh_host_runs_to_its_end(fresh_dry_run):
    fresh_dry_run.play.ok()
    assert fresh_dry_run.play.changed > 0, "it says nothing of what it would do"


def test_dry_run_on_a_fresh_host_changes_nothing(fresh_dry_run):
    assert fresh_dry_run.differences == []
