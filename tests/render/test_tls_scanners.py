"""TLS as auditors measure it: sslyze by Mozilla's profiles, testssl.sh by what is known to be weak."""

from __future__ import annotations

import json
import re
import uuid

import pytest
from rendering import ROOT
from scanned import certify, sample_app, scanned
from target_host import controller

VENV = ROOT / ".cache/scanners-venv"
NAMES = ["inbox.example.org", "www.inbox.example.org", "odd.localhost"]
BAD = ("MEDIUM", "HIGH", "CRITICAL", "FATAL")
# What testssl.sh finds, and why it stays.
WAIVED = {
    "cert_revocation": "the local authority replaces certificates and revokes none; ACME's name a list",
    "BREACH": "pages are compressed; SameSite keeps the session out of requests that other sites cause",
    "cipher_order": "version 3.0 wants the server's order; Mozilla leaves it to clients, all being good",
}
# What each profile finds. Modern wants certificates of 90 days, as ACME's are; one of the local authority,
# which only a run of playbooks/site.yml renews, is good for a year.
ISSUES = {"intermediate": set(), "modern": {"maximum_certificate_lifespan"}}
# What sslyze does not look at.
FAST = ("--server-defaults", "--headers")
TESTSSL_SECONDS = 900
# A page with a form, which has something to hide.
PAGE = "/auth/sign-in"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with certificates and the sample app's socket."""
    made = tmp_path_factory.mktemp("scanned")
    certify(made, NAMES)
    with sample_app(made):
        yield made


@pytest.fixture(scope="module", params=["inbox-12", "inbox-13", "odd-12", "odd-13"])
def served(request, rendered, folder):
    """Return a site: inbox's with Mozilla's intermediate profile, odd's with the modern one."""
    with scanned(rendered.hosts[request.param], folder) as site:
        yield site


usual = pytest.mark.parametrize("served", ["inbox-12", "inbox-13"], indirect=True, scope="module")


def found_by_sslyze(served, profile):
    """Return in what a site differs from a profile of Mozilla's."""
    controller.venv(VENV, [ROOT / "requirements/scanners.txt"])
    trusted = f"--certinfo_ca_file={served.authority}"
    target = f"{served.address}{{127.0.0.1}}"
    done = served.sandbox.beside(VENV / "bin/sslyze", f"--mozilla_config={profile}", trusted, target)
    verdict = done.stdout.partition("COMPLIANCE AGAINST")[2]
    found = dict(re.findall(r"\* (\w+): (.+)", verdict))
    assert ("FAILED" if found else "OK - Compliant") in verdict, done.stdout + done.stderr
    return found


def found_by_testssl(served, *parts):
    """Return testssl.sh's findings, each with what it is about as its `id`."""
    options = ["--add-ca=/shared/ca/ca.crt", "--nodns=none", "--ip=127.0.0.1", "--warnings=batch", "--quiet"]
    # It writes over no file: each time another.
    path = f"/tmp/{uuid.uuid4().hex}.json"
    command = ["testssl", *options, f"--jsonfile={path}", *parts, f"https://{served.address}{PAGE}"]
    done = served.sandbox.run(*command, timeout_seconds=TESTSSL_SECONDS)
    text = served.sandbox.run("cat", path).stdout
    assert text, done.stdout[-4000:] + done.stderr[-2000:]
    # With several certificates it numbers them.
    return [one | {"id": one["id"].split(" ")[0]} for one in json.loads(text)]


def weaknesses(found):
    return [one for one in found if one["severity"] in BAD and one["id"] not in WAIVED]


def test_tls_complies_with_mozillas_profile(served):
    profile = "intermediate" if served.site["app"] == "inbox" else "modern"
    found = found_by_sslyze(served, profile)
    assert set(found) == ISSUES[profile], found


@usual
def test_sslyze_tells_one_profile_from_another(served):
    assert {"tls_versions", "ciphers"} <= set(found_by_sslyze(served, "modern"))


@pytest.mark.parametrize("served", ["inbox-13"], indirect=True, scope="module")
def test_testssl_finds_nothing_weak_in_certificate_and_headers(served):
    found = found_by_testssl(served, *FAST)
    assert weaknesses(found) == []
    said = {one["id"]: one["finding"] for one in found}
    assert said["cert_chain_of_trust"].startswith("passed"), said
    assert said["HTTP_status_code"].startswith("200 OK"), said


@pytest.mark.long
def test_testssl_finds_nothing_weak_in_anything(served):
    found = found_by_testssl(served)
    assert weaknesses(found) == []
    assert {"heartbleed", "ROBOT", "BREACH", "LUCKY13", "cert_chain_of_trust"} <= {one["id"] for one in found}
