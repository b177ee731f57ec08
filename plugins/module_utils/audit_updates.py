"""Whether what was mended at Debian is mended here; and what lynis says, where it is installed."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path

from ansible.module_utils.audit_measurement import Unknown, ask, listed, measurement, unknown

LISTS = Path("/var/lib/apt/lists")
DAY = 86400


def measure_security(days: float) -> list[dict]:
    """Return the security updates that wait; nobody can tell where Debian was not asked lately."""
    name, title = "updates/security", "Security updates that wait"
    ages = [time.time() - path.stat().st_mtime for path in LISTS.glob("*_InRelease")]
    if not ages:
        return [unknown(name, title, "apt has no package lists: apt-get update")]
    if min(ages) > days * DAY:
        return [
            unknown(name, title, f"apt's package lists are {min(ages) / DAY:.0f} days old: apt-get update")
        ]
    simulated = ask("apt-get", "--simulate", "-o", "Debug::NoLocking=true", "dist-upgrade")
    waiting = [line.split()[1] for line in simulated.splitlines() if re.match(r"Inst .*[Ss]ecurity", line)]
    return [measurement(name, title, "none", listed(waiting), passed=not waiting, cure="apt-get upgrade")]


def measure_automatic() -> list[dict]:
    """Return whether security updates install themselves."""
    told = ask("apt-config", "dump", "APT::Periodic::Unattended-Upgrade")
    on = re.search(r'"([1-9]\d*|always)";', told) is not None and Path("/usr/bin/unattended-upgrade").exists()
    said = "on" if on else told.strip() or "off"
    title, cure = "Security updates install themselves", "ansible-playbook playbooks/site.yml --tags upgrades"
    return [measurement("updates/automatic", title, "on", said, passed=on, cure=cure)]


def measure_restarts() -> list[dict]:
    """Return what still runs as it was before an update."""
    told = ask("needrestart", "-b", "-r", "l")
    services = re.findall(r"(?m)^NEEDRESTART-SVC: (.*)$", told)
    kernel = ["the kernel"] if re.search(r"(?m)^NEEDRESTART-KSTA: [23]$", told) else []
    waiting = kernel + services
    title, cure = "Services that run what an update replaced", "needrestart -r l"
    return [measurement("updates/restarts", title, "none", listed(waiting), passed=not waiting, cure=cure)]


def measure_lynis(least: int) -> list[dict]:
    """Return lynis's warnings and its index; what it writes is not kept."""
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        report = Path(folder, "report.dat")
        words = ["--quick", "--quiet", "--no-colors", "--report-file", str(report), "--log-file", "/dev/null"]
        ask("lynis", "audit", "system", *words, seconds=600)
        try:
            told = report.read_text("utf-8", "replace")
        except OSError as error:
            raise Unknown(f"lynis left no report: {error}") from None
    return judge_lynis(told, least)


def judge_lynis(told: str, least: int) -> list[dict]:
    """Return what a report of lynis says: each test that warns by its own id, to be waived alone."""
    cure, warnings = "lynis audit system --quick", {}
    for test, words in re.findall(r"(?m)^warning\[\]=([^|\n]+)\|([^|\n]*)", told):
        warnings.setdefault(test, []).append(words)
    found = [
        measurement(
            f"lynis/{test}", f"lynis's warning {test}", "none", listed(words), passed=False, cure=cure
        )
        for test, words in sorted(warnings.items())
    ]
    found += [] if warnings else [measurement("lynis/none", "lynis's warnings", "none", "none", passed=True)]
    index = re.search(r"(?m)^hardening_index=(\d+)$", told)
    if not index:
        raise Unknown("lynis's report has no hardening index: it did not come to an end")
    title, expected = "lynis's hardening index", f"at least {least}"
    return [
        *found,
        measurement("lynis/index", title, expected, index[1], passed=int(index[1]) >= least, cure=cure),
    ]
