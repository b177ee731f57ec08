"""Whose word for a client's address is believed: that of the proxies the inventory names, nobody else's."""

from __future__ import annotations

import json

import pytest
from sandbox import Sandbox
from test_serving import described

PROXY, STRANGER, CLIENT = "127.0.9.3", "127.0.8.3", "203.0.113.9"


def told(sandbox, protocol: bool) -> list[dict]:
    """Return the answers of each site by question."""
    sites = [described(host) for host in sandbox.hosts]
    return list(sandbox.told("serving_proxies", {"sites": sites, "protocol": protocol}).values())


@pytest.fixture(scope="module")
def by_header(sandbox):
    """Return the answers of each site, and whether it has proxies at all: the odd one has not."""
    return [(not sandbox.odd, answers) for answers in told(sandbox, protocol=False)]


@pytest.fixture(scope="module", params=["relayed-12", "relayed-13"])
def by_protocol(request, rendered):
    host = rendered.hosts[request.param]
    with Sandbox(host.debian, [host]) as made:
        return told(made, protocol=True)


def client_of(answer: dict) -> str:
    """Return whom the app was told about."""
    assert answer["status"] == 200, answer
    headers = json.loads(answer["text"])
    assert not {"x-real-ip", "forwarded"} & headers.keys()
    return headers["x-forwarded-for"]


def test_header_of_a_named_proxy_is_believed(by_header):
    for has_proxies, answers in by_header:
        for question in ("proxy", "proxy, plain", "two proxies"):
            assert client_of(answers[question]) == (CLIENT if has_proxies else PROXY), question
        assert client_of(answers["proxy, six"]) == ("2001:db8:77::1" if has_proxies else PROXY)
        assert client_of(answers["proxy, nonsense"]) == client_of(answers["proxy, silent"]) == PROXY


def test_header_of_anybody_else_is_not_believed(by_header):
    for _has_proxies, answers in by_header:
        assert client_of(answers["stranger"]) == client_of(answers["stranger, plain"]) == STRANGER


def test_proxy_protocol_of_a_named_proxy_is_believed_and_its_header_is_not(by_protocol):
    for answers in by_protocol:
        for question in ("proxy", "proxy, version 2", "proxy, plain"):
            assert client_of(answers[question]) == CLIENT, question


def test_proxy_protocol_of_anybody_else_is_not_believed(by_protocol):
    for answers in by_protocol:
        assert client_of(answers["stranger"]) == STRANGER


def test_nobody_but_the_host_itself_is_served_without_the_proxy_protocol(by_protocol):
    for answers in by_protocol:
        assert answers["silent"]["status"] is None
        assert answers["silent, plain"]["status"] is None
        assert client_of(answers["host itself"]) == "127.0.0.1"
        assert answers["host itself, speaking it"]["status"] is None


def test_unknown_names_are_refused_on_both_kinds_of_listener(by_protocol):
    for answers in by_protocol:
        for question in ("unknown name", "host itself, unknown name"):
            assert answers[question]["status"] is None
            assert "unrecognized" in answers[question]["text"].lower().replace("_", " "), answers[question]


def counts_the_client(answers: dict) -> None:
    """Fail if log, limits or maintenance have to do with the proxy."""
    assert answers["log"] == {"/by-proxy": CLIENT, "/by-stranger": STRANGER}
    assert answers["one too many"]["status"] == 429
    assert answers["another client"]["status"] == 200
    assert answers["closed, admitted"]["status"] == 200
    assert answers["closed, others"]["status"] == answers["closed, forged"]["status"] == 503


def test_log_limits_and_maintenance_have_to_do_with_the_client_behind_a_header(by_header):
    for has_proxies, answers in by_header:
        if has_proxies:
            counts_the_client(answers)
        else:
            assert answers["log"] == {"/by-proxy": PROXY, "/by-stranger": STRANGER}
            assert answers["another client"]["status"] == 429


def test_log_limits_and_maintenance_have_to_do_with_the_client_behind_the_proxy_protocol(by_protocol):
    for answers in by_protocol:
        counts_the_client(answers)
