"""What nginx says by itself: a problem document to a program, its plain page to a browser."""

from __future__ import annotations

import json

import pytest
from test_serving import described

PROGRAMS = ("program", "reader", "silent")
# What nginx answers by itself, and with which status, before and now.
ALONE = {
    "away": 502, "away post": 502, "away static": 502, "too much": 413, "too many chunks": 413,
    "too many headers": 400,
}  # fmt: skip
TITLES = {
    400: "Bad Request", 413: "Request Entity Too Large", 429: "Too Many Requests",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
}  # fmt: skip


@pytest.fixture(scope="module")
def told(sandbox):
    """Return what the script tells."""
    return sandbox.told("serving_problems", [described(host) for host in sandbox.hosts])


@pytest.fixture
def sites(told):
    """Return each site's answers by occasion, by question."""
    return list(told["sites"].values())


def document(answer: dict, status: int) -> dict:
    """Return the problem document of an answer, which must be one."""
    assert answer["status"] == status, answer
    assert answer["headers"]["content-type"] == "application/problem+json", answer
    found = json.loads(answer["text"])
    assert list(found) == ["type", "title", "status", "detail", "request_id"]
    assert (found["type"], found["status"]) == ("about:blank", status)
    assert found["title"] == TITLES[status]
    assert found["detail"].endswith(".")
    assert answer["headers"]["x-request-id"] == found["request_id"]
    return found


def page(answer: dict, status: int) -> None:
    """Fail if an answer is not nginx's page."""
    assert answer["status"] == status, answer
    assert answer["headers"]["content-type"] == "text/html", answer
    assert answer["text"].startswith(f"<html>\r\n<head><title>{status} "), answer
    assert "<hr><center>nginx</center>" in answer["text"]


@pytest.mark.parametrize("who", PROGRAMS)
@pytest.mark.parametrize("name", ALONE)
def test_program_is_told_a_problem(sites, name, who):
    for site in sites:
        document(site["away"][f"{who} {name}"], ALONE[name])


@pytest.mark.parametrize("name", ["late", "unready", "too often"])
def test_program_is_told_when_to_come_again_where_that_helps(sites, name):
    status, seconds = {"late": (504, None), "unready": (503, "5"), "too often": (429, "1")}[name]
    for site in sites:
        for who in PROGRAMS:
            answer = site["limited"][f"{who} {name}"]
            document(answer, status)
            assert answer["headers"].get("retry-after") == seconds
        page(site["limited"][f"browser {name}"], status)
        assert site["limited"][f"browser {name}"]["headers"].get("retry-after") == seconds


def test_browser_gets_nginxs_page_to_the_letter_as_without_problem_documents(sites):
    for site in sites:
        for name in [name for name in site["away"] if name.startswith("browser ")]:
            assert site["away"][name]["text"] == site["before"][name]["text"], name
        for name, status in ALONE.items():
            page(site["away"][f"browser {name}"], status)


def test_no_status_is_another_than_without_problem_documents(sites):
    for site in sites:
        before, now = (
            {name: answer["status"] for name, answer in site[when].items()} for when in ("before", "away")
        )
        assert now == before
        assert not any(answer["text"].startswith("{") for answer in site["before"].values())


def test_body_announced_too_large_over_http2_is_a_problem_too(sites):
    for site in sites:
        for who in PROGRAMS:
            answer = site["away"][f"{who} http2"]
            assert (answer["status"], json.loads(answer["text"])["status"]) == (413, 413)
        assert site["away"]["browser http2"]["text"].startswith("<html>\r\n<head><title>413 ")


def test_head_is_answered_with_headers_alone(sites):
    for site in sites:
        for answers, name, status in (
            (site["away"], "away head", 502),
            (site["limited"], "too often head", 429),
        ):
            for who, kind in (("program", "application/problem+json"), ("browser", "text/html")):
                answer = answers[f"{who} {name}"]
                assert (answer["status"], answer["text"]) == (status, "")
                assert answer["headers"]["content-type"] == kind
                assert int(answer["headers"]["content-length"]) > 0


@pytest.mark.parametrize(("name", "status"), [("too long", 414), ("no path", 400)])
def test_request_refused_before_it_was_read_keeps_its_status_and_nginxs_page(sites, name, status):
    for site in sites:
        for who in PROGRAMS:
            page(site["away"][f"{who} {name}"], status)


@pytest.mark.parametrize("status", [400, 404, 413, 429, 500, 502, 503, 504])
def test_error_of_the_app_goes_out_as_it_wrote_it(sandbox, told, status):
    for name, site in told["sites"].items():
        caches = "snippets/cache.conf" in sandbox.run("cat", f"/etc/nginx/sites-enabled/{name}.conf").stdout
        for who in (*PROGRAMS, "browser"):
            answer = site["there"][f"{who} own {status}"]
            assert (answer["status"], answer["text"]) == (status, f"the app's own /own/{status}")
            assert answer["headers"]["content-type"] == "text/x-own"
            assert answer["headers"]["retry-after"] == "77"
            # A site that caches tells each client its own request's id, in place of the app's.
            assert ("x-request-id" in answer["headers"]) == caches


@pytest.mark.parametrize("path", ["/@problem", "/problem", "/problems.conf", "/502"])
def test_no_address_of_the_app_is_taken(sites, path):
    for site in sites:
        assert site["there"][path]["text"] == f"the app's own {path}"


def test_failed_question_whether_somebody_may_see_flower_is_told_by_its_own_status(sites):
    """The question itself is a 502 on the way, whose words must not be those of the answer, a 500."""
    asked = [site["away"] for site in sites if "browser flower" in site["away"]]
    assert asked
    for answers in asked:
        for who in PROGRAMS:
            document(answers[f"{who} no question"], 500)
            # Its pages have an error_page of their own.
            page(answers[f"{who} flower"], 500)


def test_health_without_tls_says_what_it_said(sites):
    for site in sites:
        for who in (*PROGRAMS, "browser"):
            page(site["away"][f"{who} plain readyz"], 502)


def test_problem_is_logged_as_it_was_asked_and_under_the_id_it_names(told, sites):
    for site in sites:
        lines = {line["request_id"]: line for line in map(json.loads, site["log"].splitlines())}
        for name, method, path in (("too much", "POST", "/upload"), ("away", "GET", "/orders.html")):
            answer = site["away"][f"program {name}"]
            line = lines[json.loads(answer["text"])["request_id"]]
            assert (line["method"], line["path"], line["status"]) == (method, path, answer["status"])
    assert "/orders.html" in told["everything"]
    assert "not-to-be-logged" not in told["everything"]
