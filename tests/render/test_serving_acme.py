"""Whichever host an ACME server asks has the answer; the host that issues gives no more away than that."""

from __future__ import annotations

import pytest
from sandbox import Sandbox
from test_serving import described


@pytest.fixture(scope="module", params=[12, 13])
def answers(request, rendered):
    """Return what each site answers: both hosts are one here, and meet at an address of their own."""
    hosts = [rendered.hosts[f"{kind}-{request.param}"] for kind in ("issuing", "asking")]
    with Sandbox(request.param, hosts) as made:
        said = made.run("nginx", "-t", "-q")
        assert (said.returncode, said.stdout + said.stderr) == (0, "")
        return made.told("serving_acme", [described(host) for host in hosts])


@pytest.mark.parametrize("asked", ["issuing", "asking", "asking over tls"])
def test_token_is_answered_whichever_host_is_asked(answers, asked):
    found = answers[asked]
    for question in ("token", "token, query"):
        assert found[question] == {"status": 200, "text": "the answer"}
    assert found["token, HEAD"] == {"status": 200, "text": ""}
    assert found["unknown token"]["status"] == 404


@pytest.mark.parametrize("asked", ["asking", "asking over tls"])
def test_nothing_but_a_token_is_passed_on(answers, asked):
    found = answers[asked]
    assert found["token, POST"]["status"] == 403
    for question in ("no token", "too long", "none"):
        assert found[question]["status"] == 404, question
        assert "answer" not in found[question]["text"]
    # No place of the challenges: as everything else, redirected, or the app's, which is not there.
    other = {"asking": 308, "asking over tls": 502}[asked]
    for question in ("another folder", "climbing", "climbing, plainly"):
        assert found[question]["status"] == other, question


def test_sealed_certificate_is_given_by_its_name_and_nothing_else_is(answers):
    found = answers["inside"]
    assert found.pop("sealed") == {"status": 200, "text": "sealed"}
    assert found.pop("without tls")["status"] == 400
    assert found.pop("all sealed")["status"] == 403
    assert {question: answer["status"] for question, answer in found.items()} == dict.fromkeys(found, 404)
