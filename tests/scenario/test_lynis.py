"""What lynis, Debian's own auditor, thinks of a host: it warns of nothing. Its hardening index is printed."""

from __future__ import annotations

import re

import pytest
import yaml
from target_host.shell import PROJECT_DIR

pytestmark = pytest.mark.long

REPORT = "/var/log/lynis-report.dat"
WAIVERS = PROJECT_DIR / "roles/audit/files/waivers.yml"


@pytest.fixture(scope="module")
def report(spare, say):
    """Let lynis look at a provisioned host; return what it reports. The package goes away again."""
    spare.sudo(
        "DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends lynis >/dev/null",
        timeout_seconds=300,
    )
    try:
        spare.sudo(
            "lynis audit system --quick --no-colors --quiet >/dev/null 2>&1 || true", timeout_seconds=600
        )
        text = spare.sudo(f"cat {REPORT}")
    finally:
        spare.sudo(f"apt-get -qq purge --yes lynis >/dev/null; rm -f {REPORT} /var/log/lynis.log")
    index = re.search(r"^hardening_index=([0-9]+)$", text, re.MULTILINE)
    say(f"{spare.name} lynis: hardening index {index[1]} of 100")
    return text


def test_lynis_warns_of_nothing(report):
    warnings = re.findall(r"^warning\[\]=(.*)$", report, re.MULTILINE)
    waived = {waiver["id"] for waiver in yaml.safe_load(WAIVERS.read_text())}
    assert [line for line in warnings if f"lynis/{line.partition('|')[0]}" not in waived] == []


def test_lynis_looked_at_the_firewall_and_at_sshd(report):
    """An auditor that passes over what it should look at warns of nothing either."""
    done = re.search(r"^tests_executed=(.*)$", report, re.MULTILINE)[1].split("|")
    assert {"FIRE-4540", "SSH-7408", "KRNL-6000", "AUTH-9252"} <= set(done)
    assert "firewall_active=1" in report
