"""Back, back again, a deploy that fails, a clean-up: the way back still leads to what last served well."""

from __future__ import annotations

import json
import secrets
from types import SimpleNamespace

import pytest
from changes import FACTORY, HEADING, IMPORT, PAGE
from load import Load
from observing import failed_units, status_of, units_left, units_of
from testbed.sites import until


@pytest.fixture(scope="module")
def story(site, copied_app):
    """Deploy twice, go back twice, fail to deploy, prune to two releases; all under load."""
    served = [status_of(site)["active"]]
    good = [copied_app(PAGE, HEADING, f"{HEADING}<!-- {secrets.token_hex(6)} -->") for _ in range(3)]
    broken = copied_app(FACTORY, IMPORT, f"{IMPORT}import planted_and_missing_{secrets.token_hex(4)}\n")

    def deploy(source):
        return site.play("deploy", label="deploy, to go back from", extra={"app_source": str(source)})

    with Load(site) as load:
        for source in good[:2]:
            deploy(source).ok()
            served.append(status_of(site)["active"])
        back = []
        for _ in range(2):
            site.play("rollback", label="rollback, and again").ok()
            back.append(status_of(site)["active"])
        failed = deploy(broken)
        # One whose worker still finishes a task is kept this time.
        units_left(site, seconds=150)
        pruned = json.loads(site.sudo(f"releasectl --app {site.app} --json prune --keep 2"))
        after = status_of(site)
        deploy(good[2]).ok()
        onward = status_of(site)
        site.play("rollback", label="rollback after all that").ok()
        end = status_of(site)
    return SimpleNamespace(
        served=served, back=back, failed=failed, pruned=pruned, after=after, onward=onward, end=end, load=load
    )


def test_each_rollback_goes_further_back(story):
    oldest, first, _second = story.served
    assert story.back == [first, oldest]


def test_failed_deploy_changes_nothing_of_where_back_is(story):
    assert story.failed.returncode == 2
    assert story.after["active"] == story.served[0]
    # What was fled from, and what never served, are no way back.
    assert story.after["previous"] not in {*story.served, *story.pruned["removed"]}


def test_clean_up_removes_neither_what_serves_nor_what_it_leads_back_to(story):
    left = {entry["id"] for entry in story.after["releases"]}
    assert story.after["active"] in left
    assert not left & set(story.pruned["removed"])
    assert set(story.served[1:]) <= set(story.pruned["removed"])
    assert story.after["problems"] == []


def test_way_back_leads_to_what_served_last(story):
    assert story.onward["previous"] == story.served[0]
    assert story.end["active"] == story.served[0]
    assert story.end["problems"] == []


def test_no_link_dangles_and_nothing_runs_that_should_not(site, story):
    active = story.end["active"]
    # Flower's leads to a socket that nobody waited for.
    dangling = f"find /srv/{site.app} -maxdepth 1 -xtype l"
    assert until(30, lambda: site.sudo(dangling) == ""), site.sudo(dangling)
    assert units_left(site) == units_of(site.app, active)
    assert failed_units(site) == ""


def test_visitors_notice_none_of_it(story):
    assert story.load.failures == [], story.load.words
    assert story.load.stored() == (len(story.load.posted), len(story.load.posted)), story.load.words
