"""Operators have the whole status page inside; the public has its own, and where it was asked for alone."""

from __future__ import annotations

import pytest
from test_serving import described

KINDS = {"": ("html", "text/html; charset=utf-8"), ".json": ("json", "application/json")}
OCCASIONS = ("open", "closed")


@pytest.fixture(scope="module")
def told(sandbox):
    """Return what the script tells of each site, by app."""
    return sandbox.told("serving_status", [described(host) for host in sandbox.hosts])


def is_page(answer: dict, text: str, kind: str) -> None:
    assert (answer["status"], answer["text"]) == (200, text), answer
    assert answer["headers"]["content-type"] == kind
    assert answer["headers"]["cache-control"] == "no-store"
    assert answer["headers"]["content-security-policy"].startswith("default-src 'none'; style-src")
    assert answer["headers"]["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("occasion", OCCASIONS)
def test_internal_listener_has_the_whole_page_also_in_maintenance(told, occasion):
    for app, site in told.items():
        for end, (name, kind) in KINDS.items():
            is_page(site[occasion][f"inside /status{end}"], f"index.{name} of {app}", kind)
        assert site[occasion]["inside /status/"]["status"] == 404


@pytest.mark.parametrize("occasion", OCCASIONS)
def test_public_has_its_own_page_where_it_was_asked_for(told, sandbox, occasion):
    for app, site in told.items():
        for end, (name, kind) in KINDS.items():
            answer = site[occasion][f"public /how/it.is{end}"]
            if sandbox.odd:
                is_page(answer, f"public.{name} of {app}", kind)
            elif occasion == "open":
                assert answer["text"] == f"the app's /how/it.is{end}"
            else:
                assert answer["status"] == 503


def test_nothing_else_is_open_in_maintenance_for_it(told):
    for site in told.values():
        for page in ("/how/itXis", "/how/it.is/more", "/status", "/status.json"):
            assert site["closed"][f"public {page}"]["status"] == 503, page
            assert site["open"][f"public {page}"]["text"] == f"the app's {page}"
        assert site["open"]["plain"]["status"] == site["closed"]["plain"]["status"] == 308


def test_page_that_is_not_rendered_yet_is_not_there(told, sandbox):
    for site in told.values():
        assert site["before the first"]["inside /status"]["status"] == 404
        if sandbox.odd:
            assert site["before the first"]["public /how/it.is"]["status"] == 404


def test_page_is_only_looked_at(told, sandbox):
    for site in told.values():
        if sandbox.odd:
            assert site["open"]["public post"]["status"] == 405
