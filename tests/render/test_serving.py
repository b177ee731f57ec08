"""What clients, load balancers and operators are answered by the nginx of each Debian release."""

from __future__ import annotations

import gzip
import json

import pytest

PAGES = ["livez", "readyz", "startupz", "version", "metrics"]


def described(host) -> dict:
    """Return what the script must know of a site."""
    return {
        "app": host.app,
        "name": "odd.localhost" if host.odd else f"{host.app}.example.org",
        "http_port": 8080 if host.odd else 80,
        "https_port": 8443 if host.odd else 443,
        "health_port": int(host.health_port or 0),
        "prefix": "/-/ops.d" if host.odd else "",
        "ipv6": not host.odd,
        "authorize": ("/-/may" if host.odd else "/admin/authorize") if "flower" in host.companions else None,
        "status": "/how/it.is" if host.odd else None,
        "sign_in": "/in?to=/flower/" if host.odd else "/auth/sign-in?next=/flower/",
    }


@pytest.fixture(scope="module")
def served(sandbox):
    """Return each site with every answer it gave."""
    sites = [described(host) for host in sandbox.hosts]
    answers = sandbox.told("serving", sites)
    return [(site, answers[site["app"]]) for site in sites]


def asked(answer: dict) -> dict:
    """Return what the app was asked."""
    assert answer["status"] == 200, answer
    return json.loads(answer["text"])


@pytest.mark.parametrize("page", PAGES[:4])
def test_health_is_answered_without_tls_and_not_redirected(served, page):
    for site, answers in served:
        app = asked(answers[f"plain {page}"])
        assert app["path"] == f"{site['prefix']}/{page}?q=1"
        port = "" if site["http_port"] == 80 else f":{site['http_port']}"
        assert app["headers"]["host"] == site["name"] + port
        assert app["headers"]["x-forwarded-proto"] == "http"


def test_everything_else_without_tls_is_redirected_and_never_reaches_the_app(served):
    for site, answers in served:
        port = "" if site["https_port"] == 443 else f":{site['https_port']}"
        metrics = f"{site['prefix']}/metrics?q=1"
        for name, target in (("plain page", "/text?a=1"), ("plain metrics", metrics)):
            assert answers[name]["status"] == 308
            assert answers[name]["headers"]["location"] == f"https://{site['name']}{port}{target}"


def test_health_without_tls_is_that_of_the_named_app_alone(served):
    for _site, answers in served:
        assert answers["plain stranger"]["status"] is None, answers["plain stranger"]


@pytest.mark.parametrize("page", PAGES)
def test_internal_listener_has_the_same_names_for_every_app(served, page):
    for site, answers in served:
        app = asked(answers[f"internal {page}"])
        assert app["path"] == f"{site['prefix']}/{page}?q=1"
        assert app["headers"]["x-ops-internal"] == "1"


@pytest.mark.parametrize("page", PAGES)
def test_public_pages_have_the_apps_prefix(served, page):
    for site, answers in served:
        app = asked(answers[f"public {page}"])
        assert app["path"] == f"{site['prefix']}/{page}"
        assert "x-ops-internal" not in app["headers"]


def test_nobody_outside_is_believed_to_be_inside(served):
    for _site, answers in served:
        for answer in filter(None, (answers["plain claims"], answers["health claims"])):
            headers = asked(answer)["headers"]
            assert "x-ops-internal" not in headers
            assert headers["x-forwarded-for"] == "127.0.0.1"
            assert "x-release" not in answer["headers"]


def test_health_port_answers_liveness_and_readiness_to_any_host(served):
    with_port = [(site, answers) for site, answers in served if site["health_port"]]
    assert with_port
    for site, answers in with_port:
        for host in ("10.0.0.7", "other.example.org", site["name"]):
            for page in ("livez", "readyz"):
                app = asked(answers[f"health {page} {host}"])
                assert app["path"] == f"{site['prefix']}/{page}"
                assert app["headers"]["host"] == site["name"]
            for page in ("startupz", "version", "metrics", "", "text"):
                assert answers[f"health {page} {host}"]["status"] == 404
        if site["ipv6"]:
            assert answers["health by ipv6"]["status"] == 200


def test_redirect_of_the_app_goes_out_as_it_wrote_it(served):
    for site, answers in served:
        assert answers["redirect"]["status"] == 302
        assert answers["redirect"]["headers"]["location"] == f"http://{site['app']}/elsewhere"


def test_content_type_of_the_app_is_left_as_it_is(served):
    for _site, answers in served:
        assert answers["text"]["headers"]["content-type"] == "text/plain"


def test_text_is_compressed_for_those_who_can_read_it(served):
    for _site, answers in served:
        compressed = answers["compressed"]
        assert compressed["headers"]["content-encoding"] == "gzip"
        assert "accept-encoding" in compressed["headers"]["vary"].lower()
        assert gzip.decompress(compressed["text"].encode("latin-1")).decode() == answers["text"]["text"]


def test_events_go_out_piece_by_piece_when_the_app_asks_for_it(served):
    for _site, answers in served:
        events = answers["/events"]
        assert events["status"] == 200, events
        assert (events["first"], events["text"]) == ("data: 1\n\n", "data: 2\n\n")
        assert "content-encoding" not in events["headers"]


def test_compressed_lines_go_out_piece_by_piece_when_the_app_asks_for_it(served):
    for _site, answers in served:
        assert answers["/lines"]["headers"]["content-encoding"] == "gzip"
        assert answers["/lines"]["first"] == "data: 1\n\n"


def test_chunked_upload_of_a_megabyte_arrives_whole_and_with_its_length(served):
    for _site, answers in served:
        app = asked(answers["chunked upload"])
        assert app["length"] == 1024 * 1024
        assert app["headers"]["content-length"] == str(1024 * 1024)
        assert "transfer-encoding" not in app["headers"]


LOOKS = ("GET ", "HEAD tasks", "POST tasks/datatable")
CHANGES = ("POST api/worker/shutdown/x", "DELETE ", "OPTIONS ")


def flowers(served) -> list[tuple[dict, dict]]:
    """Return the sites that have a Flower, and what it answered."""
    found = [(site, answers["flower"]) for site, answers in served if site["authorize"]]
    assert found
    return found


def test_flower_is_shown_to_whom_the_app_lets_in(served):
    for site, answers in flowers(served):
        for look in LOOKS:
            answer = answers[f"admin {look}"]
            assert answer["status"] == 200, (look, answer)
        app = asked(answers["admin GET "])
        assert app["path"] == "/flower/"
        assert app["headers"]["host"].partition(":")[0] == site["name"]
        assert asked(answers["admin POST tasks/datatable"])["length"] == 9


def test_flower_is_refused_to_whom_the_app_does_not_let_in(served):
    for _site, answers in flowers(served):
        assert {answers[f"viewer {words}"]["status"] for words in LOOKS + CHANGES} == {403}


def test_visitor_of_flower_who_has_not_signed_in_is_sent_to_the_sign_in(served):
    for site, answers in flowers(served):
        answer = answers["nobody GET "]
        port = "" if site["https_port"] == 443 else f":{site['https_port']}"
        assert answer["status"] == 302
        assert answer["headers"]["location"] == f"https://{site['name']}{port}{site['sign_in']}"
        assert answers["nobody POST tasks/datatable"]["status"] == 401


def test_nothing_can_be_changed_through_flower_by_anybody(served):
    for _site, answers in flowers(served):
        for who in ("admin", "viewer", "nobody"):
            statuses = {answers[f"{who} {change}"]["status"] for change in CHANGES}
            assert statuses <= {403, 302}, (who, statuses)
            assert 403 in statuses


def test_question_nginx_asks_the_app_cannot_be_asked_from_outside(served):
    for _site, answers in flowers(served):
        assert answers["admin GET -/authorize"]["status"] == 404


def test_site_without_flower_leaves_its_address_to_the_app(served):
    for site, answers in served:
        if not site["authorize"]:
            assert asked(answers["flower"]["nobody GET "])["path"] == "/flower/"
