"""Who gets in, and what the kernel keeps from those who did: sshd, accounts, sysctls."""

from __future__ import annotations

import re
from pathlib import Path

from ansible.module_utils.audit_measurement import Unknown, ask, listed, measurement, unknown

WEAK = {
    "ciphers": r"cbc|3des|arcfour|rc4",
    "macs": r"md5|sha1|umac-64|-96",
    "kexalgorithms": r"sha1$|group1-",
    "hostkeyalgorithms": r"^ssh-rsa|ssh-dss",
}


def measure_sshd(wanted: dict[str, list[str]]) -> list[dict]:
    """Return sshd's effective settings beside those that are wanted, and the algorithms that are weak."""
    told = {}
    for line in ask("sshd", "-T").splitlines():
        name, _, value = line.partition(" ")
        told[name] = value
    cure = "sshd -T; ansible-playbook playbooks/site.yml --tags ssh"
    found = [
        measurement(
            f"sshd/{name}",
            f"sshd's {name}",
            " or ".join(values),
            told.get(name, "not said"),
            passed=told.get(name) in values,
            cure=cure,
        )
        for name, values in wanted.items()
    ]
    for name, pattern in WEAK.items():
        weak = [one for one in told.get(name, "").split(",") if re.search(pattern, one)]
        title = f"sshd's {name} that are weak"
        found.append(measurement(f"sshd/{name}", title, "none", listed(weak), passed=not weak, cure=cure))
    return found


def measure_sysctls(wanted: dict[str, list[str]]) -> list[dict]:
    """Return the kernel's settings beside the values that are wanted."""
    if Path("/run/systemd/container").exists():
        raise Unknown("in a container the kernel is somebody else's")
    found = []
    for name, values in wanted.items():
        title = f"The kernel's {name}"
        try:
            value = Path("/proc/sys", *name.split(".")).read_text().strip()
        except OSError:
            found.append(
                unknown(f"sysctl/{name}", title, "this kernel does not have it, or does not show it")
            )
            continue
        cure = f"sysctl {name}; base_sysctl sets it"
        found.append(
            measurement(
                f"sysctl/{name}", title, " or ".join(values), value, passed=value in values, cure=cure
            )
        )
    return found


def measure_accounts(etc: str = "/etc") -> list[dict]:
    """Return accounts that are root by another name, and those without a password to give."""
    roots = [row[0] for row in rows(f"{etc}/passwd") if row[2] == "0" and row[0] != "root"]
    empty = [row[0] for row in rows(f"{etc}/shadow") if row[1] == ""]
    return [
        measurement(
            "accounts/root",
            "Accounts that are root by another name",
            "none",
            listed(roots),
            passed=not roots,
            cure="getent passwd 0",
        ),
        measurement(
            "accounts/empty",
            "Accounts without a password",
            "none",
            listed(empty),
            passed=not empty,
            cure=f"passwd --lock {' '.join(empty[:1])}",
        ),
    ]


def rows(path: str) -> list[list[str]]:
    """Return the rows of a file of accounts."""
    return [line.split(":") for line in Path(path).read_text().splitlines() if line.count(":") > 2]
