"""Internal pages are shown on the internal listener and nowhere else, however their address is written."""

from __future__ import annotations

import pytest
from test_serving import described

PAGES = ["/metrics", "/readyz", "/nginx_status", "/releasectl/metrics", "/status", "/-/ops.d/metrics"]
WAYS = [
    "/PAGE", "/PAGE/", "//PAGE", "///PAGE", "/./PAGE", "/x/../PAGE", "/x/y/../../PAGE", "/../PAGE",
    "/%2e/PAGE",
    "/x/%2e%2e/PAGE", "/x/%2E%2E%2FPAGE", "/x/..%2fPAGE", "/%2FPAGE", "/%5cPAGE", "/\\PAGE", "/FIRST",
    "/CODED",
    "/%25%36%64PAGE", "/UPPER", "/PAGE%20", "/PAGE%09", "/PAGE%0a", "/PAGE%0d%0a", "/PAGE%00", "/PAGE%00.css",
    "/PAGE%2F", "/PAGE%2f..", "/PAGE;x=1", "/PAGE;/x", "/PAGE?x=1", "/PAGE?", "/PAGE#x", "/PAGE%3f",
    "/PAGE%23",
    "/PAGE.", "/PAGE..", "/PAGE/.", "/PAGE/x/..", "/PAGE//", "/static/../PAGE", "/static/%2e%2e/PAGE",
    "/static/..;/PAGE", "/static//../PAGE", "/flower/../PAGE", "/.;/PAGE", "/;x/PAGE", "/%c0%afPAGE",
    "/x/%c0%ae%c0%ae/PAGE", "/%ef%bc%8fPAGE", "/\xa0PAGE", "//maintenance/../PAGE", "/@app/../PAGE",
    "//127.0.0.1:9180/PAGE", "/PAGE%u0020", "/PAGE*", "/PAGE\\", "https://SITE/PAGE",
    "http://127.0.0.1:9180/PAGE",
    "http://localhost:9180/PAGE", "https://SITE//PAGE", "https://SITE@127.0.0.1:9180/PAGE",
]  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"]
CLAIMS = [
    [], ["X-Ops-Internal: 1"], ["x-ops-internal: 1"], ["X_Ops_Internal: 1"], ["X-Ops_Internal: 1"],
    ["X-Ops-Internal: 1", "X-Ops-Internal: 1"], ["Connection: X-Ops-Internal", "X-Ops-Internal: 1"],
    ["X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Real-IP: 127.0.0.1"],
    ["X-Original-URL: /metrics", "X-Rewrite-URL: /metrics", "X-Ops-Internal: 1"],
    ["X-Forwarded-Host: 127.0.0.1:9180", "X-Forwarded-Port: 9180"],
]  # fmt: skip
MARKS = ["an internal page", "releasectl_deploys", "Active connections", "who deployed"]


@pytest.fixture(scope="module")
def told(sandbox):
    """Return what the script tells of each site."""
    given = {
        "sites": [described(host) for host in sandbox.hosts],
        "pages": PAGES,
        "ways": WAYS,
        "methods": METHODS,
        "claims": CLAIMS,
        "marks": MARKS,
    }
    return list(sandbox.told("serving_internal", given).values())


def test_no_way_to_write_it_shows_an_internal_page_in_public(told, say):
    for site in told:
        say(f"{site['asked']} ways to ask for an internal page, {site['reached']} led to the app")
        assert site["shown"] == []
        assert site["asked"] > 40 * len(METHODS) * 3 * len(PAGES)
        # Not all were refused at the door, where there would have been no header to pass on.
        assert site["reached"] > 1000


def test_internal_listener_shows_what_the_public_ones_do_not(told):
    for site in told:
        marks = {"/nginx_status": MARKS[2], "/releasectl/metrics": MARKS[1], "/status": MARKS[3]}
        assert set(site["inside"]) == set(PAGES[:5])
        for page, said in site["inside"].items():
            assert marks.get(page, MARKS[0]) in said, (page, said)
