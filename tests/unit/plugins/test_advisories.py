"""Packages that nobody knows anything of are not taken for safe ones."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from target_host.shell import PROJECT_DIR

sys.path.insert(0, str(PROJECT_DIR / "plugins/filter"))

from advisories import advisories, locked_packages

ASKED = "flask==0.12 --hash=sha256:{}\ngreenlet==3.0 --hash=sha256:{}\n".format("0" * 64, "1" * 64)
# As pip-audit 2.10 prints it.
VULNERABLE = {
    "name": "flask",
    "version": "0.12",
    "vulns": [{"id": "PYSEC-2019-179", "fix_versions": ["1.0"], "aliases": ["CVE-2019-1010083"]}],
}
CLEAN = {"name": "greenlet", "version": "3.0", "vulns": []}


def said(*dependencies, rc=0):
    return {"rc": rc, "stdout": json.dumps({"dependencies": dependencies, "fixes": []}), "stderr": ""}


def pip_audit(*words, requirements=ASKED):
    """Run the real one on hashed requirements."""
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--format=json"]
    command += ["--progress-spinner=off", "--requirement=/dev/stdin", "--timeout=10", *words]
    done = subprocess.run(command, input=requirements, capture_output=True, text=True, check=False)
    return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def test_vulnerable_package_is_named_with_its_cure():
    told = advisories(said(VULNERABLE, CLEAN, rc=1), ASKED, [])
    assert told == {"unknown": [], "found": ["flask 0.12: PYSEC-2019-179 (cured in 1.0)"], "waived": []}


@pytest.mark.parametrize("name", ["PYSEC-2019-179", "CVE-2019-1010083"])
def test_waiver_counts_by_any_name_of_the_advisory_and_shows_its_reason(name):
    told = advisories(said(VULNERABLE, CLEAN, rc=1), ASKED, [{"id": name, "reason": "no JSON is read"}])
    assert (told["found"], told["unknown"]) == ([], [])
    assert told["waived"] == ["flask 0.12: PYSEC-2019-179 (cured in 1.0): no JSON is read"]


def test_waiver_of_another_advisory_counts_for_nothing():
    assert advisories(said(VULNERABLE, CLEAN), ASKED, [{"id": "CVE-1", "reason": "x"}])["found"]


def test_package_that_is_left_out_of_the_answer_is_not_known():
    assert advisories(said(CLEAN), ASKED, [])["unknown"] == ["flask: pip-audit does not name it"]


def test_service_out_of_reach_is_no_good_news(monkeypatch):
    """The real pip-audit, with every way out closed."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    told = advisories(pip_audit("--vulnerability-service=osv"), ASKED, [])
    assert told["found"] == []
    assert "pip-audit got no answer" in told["unknown"][0]


def test_package_the_index_does_not_know_is_no_good_news():
    """The real pip-audit passes it, and says no more than that it left it out."""
    unknown = f"no-such-package-of-anybody==1.0 --hash=sha256:{'0' * 64}\n"
    told = advisories(pip_audit(requirements=unknown), unknown, [])
    assert len(told["unknown"]) == 1
    assert told["found"] == []


def test_only_packages_of_the_index_are_asked_for():
    """Advisories for a name on the index say nothing of a project of that name built here."""
    hashes = [{"alg": "SHA-256", "content": "0" * 64}]
    own = {"name": "inbox", "version": "0.1.0", "hashes": hashes}
    theirs = {"name": "flask", "version": "0.12", "hashes": hashes, "purl": "pkg:pypi/flask@0.12"}
    assert locked_packages({"components": [own, theirs]}) == ASKED.splitlines(keepends=True)[0]
