"""A share of the clients gets the canary, each client always the same, and nobody loses a request by it."""

from __future__ import annotations

import pytest
from test_serving import described

OLD, NEW = "20260101T000000Z-aaaaaaa", "20260102T000000Z-bbbbbbb"


@pytest.fixture(scope="module")
def told(sandbox):
    """Return what the script tells."""
    sites = [{**described(host), "by_address": not host.odd} for host in sandbox.hosts]
    return sandbox.told("serving_canary", sites)


@pytest.fixture
def stories(told):
    """Return each site's answers by stage."""
    return [site["story"] for site in told["sites"].values()]


def releases(answers: list) -> list[str]:
    """Return which release answered each client, all of whom must have been answered."""
    assert {status for status, _ in answers} == {200}, answers
    return [text.split()[0] for _, text in answers]


def canaries(answers: list) -> set[int]:
    """Return the clients that got the canary."""
    return {number for number, release in enumerate(releases(answers)) if release == NEW}


@pytest.mark.parametrize("stage", ["before", "turned", "withdrawn"])
def test_without_a_canary_everybody_gets_the_active_release(stories, stage):
    for story in stories:
        assert set(releases(story[stage])) == {OLD}


@pytest.mark.parametrize("stage", ["promoted", "after"])
def test_promoted_canary_is_everybodys(stories, stage):
    for story in stories:
        assert set(releases(story[stage])) == {NEW}


@pytest.mark.parametrize(("stage", "share"), [("quarter", 25), ("half", 50)])
def test_share_of_the_clients_is_about_what_was_asked_for(stories, stage, share):
    """Of 160 clients, three times the standard deviation to either side: 10.3 and 11.9 points."""
    for story in stories:
        found = 100 * len(canaries(story[stage])) / len(story[stage])
        assert abs(found - share) < 12, found


def test_each_client_gets_the_same_release_every_time_and_by_every_method(stories):
    for story in stories:
        quarter = canaries(story["quarter"])
        for stage in ("quarter by post", "encoded", "quarter again"):
            assert canaries(story[stage]) == quarter, stage


def test_raised_share_takes_more_clients_in_and_lets_none_go(stories):
    for story in stories:
        assert canaries(story["quarter"]) < canaries(story["half"])


def test_address_reaches_the_app_as_it_was_asked(stories):
    for story in stories:
        assert {text.partition(" ")[2] for _, text in story["encoded"]} == {"/a%20b//c?d=e%2Ff"}


def test_each_client_gets_its_own_releases_files_and_everybody_every_hashed_one(stories):
    for story in stories:
        assert canaries(story["files"]) == canaries(story["quarter"])
        assert set(releases(story["hashed"])) == {NEW}


def test_load_balancers_are_told_of_the_active_release(stories):
    for story in stories:
        assert story["readyz"].startswith(OLD)


def test_no_request_is_lost_however_often_the_links_move(told):
    for site in told["sites"].values():
        assert site["hammered"]["lost"] == []
        assert site["hammered"]["turns"] > 10
        assert min(site["hammered"]["counts"].values()) > 100, site["hammered"]["counts"]
        assert set(site["hammered"]["counts"]) == {OLD, NEW}


def test_nginx_is_never_reloaded_for_it(told):
    before, after = told["workers"]
    assert before == after
    assert before
