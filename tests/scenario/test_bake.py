"""A release that gets ready and turns out bad under traffic is taken off it again, by nobody's hand."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from changes import FACTORY, IMPORT, crash_after
from load import Load
from observing import failed_units, status_of, units_left, units_of
from testbed import durations

# Some seconds after it is ready the server is gone, as by a leak that eats the memory.
CRASH = crash_after(25)
BAKE_SECONDS = 40


@pytest.fixture(scope="module")
def baked(site, copied_app):
    """Deploy it under load, with a watch after the switch; return what was seen."""
    before = status_of(site)
    source = copied_app(FACTORY, IMPORT, IMPORT + CRASH)
    with Load(site) as load:
        play = site.play(
            "deploy",
            extra={"app_source": str(source), "app_bake_seconds": BAKE_SECONDS},
            label="deploy of a release that crashes later",
        )
    durations.record(f"{site.name} deploy of a release that crashes later", play.seconds)
    seen = SimpleNamespace(play=play, load=load, before=before, after=status_of(site))
    seen.units, seen.failed = units_left(site), failed_units(site)
    return seen


def test_release_that_crashes_later_fails_the_play_with_its_cause(baked):
    assert baked.play.returncode == 2, baked.play.tail()
    words = baked.play.words
    assert "failed after the switch; traffic is back on the old release (releasectl exit 3)" in words
    # On a host that is very busy the watch has not begun by then.
    assert re.search("crashed (while it was watched|after it was ready)", words), baked.play.tail()


def test_old_release_has_the_traffic_back(baked):
    assert baked.after["active"] == baked.before["active"]
    assert baked.after["problems"] == []
    assert baked.after["deploy_lock"] is None


def test_both_releases_answered_and_little_was_lost(baked):
    staged = {one["id"] for one in baked.after["releases"]} - {one["id"] for one in baked.before["releases"]}
    assert len(staged) == 1
    # What a killed process was just answering, nobody can answer. Who waits in its socket's queue is.
    print(baked.load.words)
    assert len(baked.load.failures) <= 5, baked.load.words


def test_nothing_of_it_is_left_running_or_failed(baked, site):
    assert baked.units == units_of(site.app, baked.before["active"])
    assert baked.failed == ""
