"""A closed site says so to everybody, health goes on, and a link tells nginx, which is never reloaded."""

from __future__ import annotations

import html
import json
import sys

import pytest
from rendering import ROOT
from test_serving import described

sys.path.insert(0, str(ROOT / "roles/app/files"))

from releasectl.maintenance import Closure

UGLY = """<script>alert("x")</script> & 'bye' <!--# echo var="remote_addr" --> ü"""
FIRST, SECOND = Closure(UGLY, 120), Closure("Moving house", 45)
PUBLIC = (
    "page", "post", "put", "too much", "static", "static of the app", "flower", "metrics", "reason",
    "reason by two slashes", "reason by encoded slashes", "health with more",
)  # fmt: skip
PAGES = ("livez", "readyz", "startupz", "version")
WHO = ("browser", "program", "silent")


@pytest.fixture(scope="module")
def told(sandbox):
    """Return what the script tells, and the sites' descriptions."""
    sites = [described(host) for host in sandbox.hosts]
    closures = [{"folder": one.folder, "files": one.files} for one in (FIRST, SECOND)]
    told = sandbox.told("serving_maintenance", {"sites": sites, "closures": closures})
    return {**told, "described": sites}


@pytest.fixture
def sites(told):
    """Return each site's answers by occasion, by question."""
    return list(told["sites"].values())


def closed(answer: dict, closure: Closure) -> None:
    """Fail if an answer does not tell what a closure tells."""
    assert answer["status"] == 503, answer
    assert answer["headers"]["retry-after"] == str(closure.retry_after_seconds)
    assert answer["headers"]["cache-control"] == "no-store"
    assert "accept" in answer["headers"]["vary"].lower()
    assert len(answer["headers"]["x-request-id"]) == 32


@pytest.mark.parametrize("occasion", ["before", "after"])
def test_open_site_answers_as_if_there_were_no_maintenance(sites, occasion):
    for site in sites:
        for who in WHO:
            for name in ("page", "post", "put", "static of the app", "reason", "reason by two slashes"):
                answer = site[occasion][f"{who} {name}"]
                assert (answer["status"], answer["text"][:9]) == (200, "the app's"), (name, answer)
                assert "retry-after" not in answer["headers"]
            assert site[occasion][f"{who} static"]["text"] == "a file"
            assert site[occasion][f"{who} too much"]["status"] == 413


@pytest.mark.parametrize("name", PUBLIC)
def test_closed_site_answers_nobody_anything_else(sites, name):
    for site in sites:
        for occasion, closure in (("first", FIRST), ("second", SECOND)):
            for who in WHO:
                closed(site[occasion][f"{who} {name}"], closure)


@pytest.mark.parametrize("who", ["program", "silent"])
def test_program_is_told_the_reason_in_a_problem_document(sites, who):
    for site in sites:
        for occasion, closure in (("first", FIRST), ("second", SECOND)):
            for name in PUBLIC:
                answer = site[occasion][f"{who} {name}"]
                assert answer["headers"]["content-type"] == "application/problem+json"
                assert json.loads(answer["text"]) == {
                    "type": "about:blank",
                    "title": "Service Unavailable",
                    "status": 503,
                    "detail": closure.reason,
                    "request_id": answer["headers"]["x-request-id"],
                }


def test_person_is_told_the_reason_on_a_page_that_asks_nobody_for_anything(sites):
    for site in sites:
        for occasion, closure in (("first", FIRST), ("second", SECOND)):
            for name in PUBLIC:
                answer = site[occasion][f"browser {name}"]
                page = answer["text"]
                assert answer["headers"]["content-type"] == "text/html; charset=utf-8"
                assert f"<p>{html.escape(closure.reason)}</p>" in page
                assert page.startswith('<!doctype html>\n<html lang="en">')
                assert "prefers-color-scheme: dark" in page
                assert answer["headers"]["x-request-id"] in page
                for word in ("<script", "src=", "href=", "url(", "@import", "<!--", "[an error"):
                    assert word not in page, word
                assert "default-src 'none'" in answer["headers"]["content-security-policy"]


def test_head_is_answered_with_headers_alone(sites):
    for site in sites:
        for who in WHO:
            closed(site["first"][f"{who} head"], FIRST)
            assert site["first"][f"{who} head"]["text"] == ""


@pytest.mark.parametrize("page", PAGES)
def test_health_goes_on_on_every_listener(told, sites, page):
    for described_site, site in zip(told["described"], sites, strict=True):
        for where in ("public", "plain", "internal"):
            answer = site["first"][f"{where} {page}"]
            assert answer["status"] == 200, (where, answer)
            assert answer["text"] == f"the app's {described_site['prefix']}/{page}"
        if described_site["health_port"] and page in ("livez", "readyz"):
            assert site["first"][f"health {page}"]["status"] == 200


def test_plain_port_goes_on_leading_to_the_public_site(sites):
    for site in sites:
        assert site["first"]["plain page"]["status"] == 308


def test_named_addresses_reach_the_app_and_no_others(told, sites, sandbox):
    for site in sites:
        for source in ("127.0.0.2", "127.0.1.77", "127.0.2.1"):
            for name in ("page", "static", "flower"):
                before, now = site["before"][f"{source} {name}"], site["first"][f"{source} {name}"]
                if sandbox.odd and source != "127.0.2.1":
                    assert (now["status"], now["text"]) == (before["status"], before["text"]), (source, name)
                else:
                    closed(now, FIRST)
        closed(site["first"]["forged page"], FIRST)


def test_one_app_is_closed_and_its_neighbour_is_not(sites, sandbox):
    closed(sites[0]["first alone"], FIRST)
    if not sandbox.odd:
        assert sites[1]["first alone"]["text"] == "the app's /orders"


def test_every_answer_while_the_link_comes_and_goes_is_a_whole_one(sites):
    """The reason, its folder removed under the request, may be told in general words, and never by halves."""
    for site in sites:
        hammered = site["hammered"]
        assert hammered["stuck"] == 0
        assert hammered["turns"] > 50
        kinds = {"open": 0, "closed": 0}
        for key, count in hammered["answers"].items():
            status, again, text = json.loads(key)
            kinds["open" if status == 200 else "closed"] += count
            if status == 200:
                assert (again, text) == (None, "the app's /orders")
            else:
                assert (status, again in ("120", "5")) == (503, True), key
                told = text if text.startswith("<!doctype html>") else json.loads(text)["detail"]
                assert told in (UGLY, "The site is closed for maintenance.") or told.endswith("</html>\n"), (
                    key
                )
        assert min(kinds.values()) > 50, kinds


def test_nginx_is_never_reloaded_for_it(told):
    before, after = told["workers"]
    assert before == after
    assert before
