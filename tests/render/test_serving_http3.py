"""HTTP/3, where it is asked for: the same answers, the same limits and the same refusals as over HTTP/2."""

from __future__ import annotations

import json

import pytest
from sandbox import Sandbox
from test_serving import described

APPS = ("quick", "brisk")
OFFER = 'h3=":8443"; ma=86400'
# What one answer has otherwise than the next, whatever was asked.
OF_THE_MOMENT = {"date", "x-request-id"}
STATUSES = {
    "page": 200,
    "error of the app": 404,
    "own": 200,
    "static": 200,
    "too much": 413,
    "by ipv6": 200,
    "another host": 421,
    "metrics": 200,
    "closed": 503,
    "away": 502,
}


@pytest.fixture(scope="module")
def told(rendered):
    """Return the answers of two apps that share a host, by app."""
    hosts = [rendered.hosts[f"{app}-13"] for app in APPS]
    with Sandbox(13, hosts) as made:
        done = made.run("nginx", "-t", "-q")
        assert (done.returncode, done.stdout + done.stderr) == (0, "")
        return made.told("serving_http3", [described(host) | {"https_port": 8443} for host in hosts])


def headers(answer: dict) -> list[tuple[str, str]]:
    """Return an answer's header lines but for what differs by the moment."""
    lines = [(name.lower(), value) for name, value in answer["headers"]]
    return sorted(line for line in lines if line[0] not in OF_THE_MOMENT)


@pytest.mark.parametrize("question", STATUSES)
def test_answer_is_that_of_http2(told, question):
    for app in APPS:
        old, new = told[app][question]["2"], told[app][question]["3"]
        assert (new["version"], new["status"]) == ("3", STATUSES[question]), new
        assert (old["version"], old["status"]) == ("2", STATUSES[question]), old
        assert headers(new) == headers(old)
        assert {"strict-transport-security", "x-frame-options"} <= dict(headers(new)).keys()


@pytest.mark.parametrize("question", STATUSES)
def test_every_answer_offers_http3_once_unless_the_app_has_a_word_of_its_own(told, question):
    for app in APPS:
        for version in ("2", "3"):
            found = [value for name, value in headers(told[app][question][version]) if name == "alt-svc"]
            assert found == (["clear"] if question == "own" else [OFFER])


def test_each_app_is_told_the_same_of_its_client_and_no_claim_is_believed(told):
    for app in APPS:
        old, new = (json.loads(told[app]["page"][version]["text"]) for version in ("2", "3"))
        assert new["site"] == app
        for asked in (old, new):
            del asked["headers"]["x-request-id"]
        assert new == old
        assert new["headers"]["x-forwarded-for"] == "127.0.0.1"
        assert new["headers"]["x-forwarded-proto"] == "https"
        assert new["headers"]["host"] == new["headers"]["x-forwarded-host"] == f"{app}.example.org:8443"
        assert "forwarded" not in new["headers"]


def test_unknown_name_and_none_are_refused_before_anything_is_asked(told):
    for app in APPS:
        for question in ("unknown name", "no name"):
            old, new = told[app][question]["2"], told[app][question]["3"]
            assert old["status"] is new["status"] is None, (old, new)
            assert "unrecognized name" in old["text"]
            assert "QUIC connection has been shut down" in new["text"]


def test_internal_pages_are_not_to_be_had(told):
    for app in APPS:
        asked = json.loads(told[app]["metrics"]["3"]["text"])
        assert "x-ops-internal" not in asked["headers"], "the app refuses without it"
        assert "refused" in told[app]["internal port"]["3"]["text"]


def test_limits_hold(told):
    for app in APPS:
        assert told[app]["at once"]["3"]["status"] == 429
        assert told[app]["too often"]["3"]["status"] == 429


def test_log_has_the_request_with_the_id_the_app_was_told_and_without_its_query(told):
    for app in APPS:
        (line,) = [
            line for line in told[app]["log"] if line["path"] == "/page" and line["protocol"] == "HTTP/3.0"
        ]
        asked = json.loads(told[app]["page"]["3"]["text"])
        assert line["request_id"] == asked["headers"]["x-request-id"] != "forged"
        assert (line["client"], line["status"], line["release"]) == ("127.0.0.1", 200, "r1")
        assert "unlogged" not in json.dumps(line)
