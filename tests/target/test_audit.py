"""The audit finds what is there, on a host as it is and on one that somebody opened up."""

from __future__ import annotations

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

# What this project answers for everywhere. Others depend on what the machine has: a kernel, updates.
HELD = [
    "unit/web",
    "unit/worker",
    "unit/nginx",
    "unit/postgresql",
    "unit/redis",
    "files/secrets",
    "files/logs",
    "files/sockets",
    "network/listening",
    "certificate/expiry",
    "certificate/served",
    "accounts/root",
    "accounts/empty",
    "disk/setuid",
    "release/sbom",
]
REPORTS = ("txt", "json", "html")


def audit(site, tmp_path, *waivers):
    """Run the audit; return how the play went, its report by id, and the texts of all three."""
    told = json.dumps({"audit_report_dir": str(tmp_path), "audit_waivers": waivers})
    play = site.play("audit", "-e", told)
    texts = {kind: (tmp_path / f"audit.{kind}").read_text() for kind in REPORTS}
    report = json.loads(texts["json"])
    found = {one["id"]: one for one in report["hosts"][site.name]}
    return SimpleNamespace(play=play, report=report, found=found, **texts)


@contextmanager
def opened(site, spoil, mend):
    """Spoil a host, and put it right again."""
    site.sudo(spoil)
    try:
        yield
    finally:
        site.sudo(mend)


def test_host_is_measured_and_every_form_of_the_report_tells_the_same(site, tmp_path):
    told = audit(site, tmp_path)
    wrong = {name: told.found.get(name) for name in HELD if told.found.get(name, {}).get("state") != "passed"}
    assert wrong == {}
    for one in told.found.values():
        assert one["id"] in told.txt
        assert one["id"] in told.html
        assert one["state"] in ("failed", "unknown", "waived", "passed")
        assert one["reason"] or one["state"] in ("failed", "passed"), one
    assert told.report["counts"]["passed"] == told.html.count('class="state passed"')
    assert "<script" not in told.html
    assert [oct((tmp_path / f"audit.{kind}").stat().st_mode & 0o777) for kind in REPORTS] == ["0o600"] * 3


def test_what_somebody_opened_up_fails_the_audit_which_names_it_and_what_to_type(site, tmp_path):
    # Of all secrets one that no service of ours reads: touching theirs would restart it in the next run.
    key = "/etc/gshadow"
    spoil = f"chmod 0644 {key} && install -m 0666 /dev/null /srv/everybodys"
    spoil += " && install -m 4755 /bin/true /usr/local/bin/strange"
    # What it was, as a command.
    modes = site.sudo(f"stat -c 'chmod %a %n' {key}")
    mend = f"{modes}\nrm -f /srv/everybodys /usr/local/bin/strange"
    with opened(site, spoil, mend):
        told = audit(site, tmp_path, {"id": "disk/setuid", "reason": "a drill"})
    assert site.sudo(f"stat -c 'chmod %a %n' {key}") == modes
    assert told.play.returncode != 0
    assert told.found["files/secrets"]["state"] == "failed"
    assert "chmod o= " in told.found["files/secrets"]["cure"]
    assert "/srv/everybodys" in told.found["disk/world-writable"]["found"]
    assert "files/secrets" in told.play.words
    waived = told.found["disk/setuid"]
    assert (waived["state"], waived["reason"]) == ("waived", "a drill")
    assert "/usr/local/bin/strange" in waived["found"]


@pytest.mark.parametrize("waiver", [{"id": "disk/setuid"}, {"reason": "x"}, {"id": "x", "reason": " "}])
def test_waiver_without_a_reason_is_refused_before_anything_is_measured(site, tmp_path, waiver):
    told = json.dumps({"audit_report_dir": str(tmp_path), "audit_waivers": [waiver]})
    play = site.play("audit", "-e", told)
    assert play.returncode != 0
    assert "wants an id of the report and a reason" in play.words
    assert not (tmp_path / "audit.json").exists()


def test_advisories_are_asked_for_the_release_that_runs_and_silence_is_no_good_news(site):
    """Where the index has no advisories, every package is named as one that nobody can tell about."""
    play = site.play("vulnerabilities")
    packages = json.loads(site.sudo(f"cat /srv/{site.app}/current/sbom.cdx.json"))["components"]
    asked = sum("purl" in one for one in packages)
    assert f"{asked} packages of the active release" in play.words
    if play.returncode == 0:
        assert "none of them is known to be vulnerable" in play.words
    else:
        assert "not known to be safe" in play.words or "vulnerable:" in play.words
