#!/usr/bin/python
"""Measure a host's security in one go, and change nothing."""

from __future__ import annotations

from ansible.module_utils import (
    audit_access,
    audit_files,
    audit_network,
    audit_releases,
    audit_units,
    audit_updates,
)
from ansible.module_utils.audit_measurement import Unknown, unknown
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: host_audit
short_description: Measure a host's security, and change nothing
description:
  - Every measurement says what was found, what is expected, and whether that passed, failed, or nobody can
    tell. One that cannot be made keeps none of the others from being made.
options:
  units:
    description: Services with C(name), C(unit) (a pattern), C(limit) of their exposure, and C(optional).
    type: list
    elements: dict
    default: []
  private:
    description: Kinds of files that no other account may reach, with C(name), C(title), C(paths) (patterns).
    type: list
    elements: dict
    default: []
  listening:
    description: Ports that a network may reach, with C(port) and C(address), empty for any.
    type: list
    elements: dict
    default: []
  certificate:
    description: The site's certificate, with C(path), C(name), C(port) and C(days); empty for none.
    type: dict
    default: {}
  sshd:
    description: Settings of sshd, and the values each may have.
    type: dict
    default: {}
  sysctl:
    description: Settings of the kernel, and the values each may have.
    type: dict
    default: {}
  release_root:
    description: Folder of the app whose releases are looked at; empty for none.
    type: path
    default: ""
  lists_days:
    description: How old what is known of updates may be.
    type: float
    default: 2
  lynis:
    description: Whether to run lynis where it is installed.
    type: bool
    default: true
  lynis_index:
    description: Its least hardening index.
    type: int
    default: 65
author: the project's authors
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Measure
  host_audit:
    units:
      - {name: nginx, unit: nginx.service, limit: 2.7}
  register: __audit_measured
"""

RETURN = r"""
measurements:
  description: Each with C(id), C(title), C(expected), C(found), C(state), C(cure), C(reason) of an unknown.
  type: list
  returned: always
"""


def parts(asked: dict) -> list[tuple]:
    """Return every part of the audit: its name, its title where it cannot be made, and what makes it."""
    certificate = asked["certificate"]
    found = [
        ("unit", "Exposure of services", lambda: audit_units.measure(asked["units"])),
        ("files", "Private files", lambda: audit_files.measure_private(asked["private"])),
        ("network/listening", "Ports", lambda: audit_network.measure_listening(asked["listening"])),
        ("network/firewall", "The firewall", audit_network.measure_firewall),
        ("sshd", "sshd's settings", lambda: audit_access.measure_sshd(asked["sshd"])),
        ("accounts", "Accounts", audit_access.measure_accounts),
        ("sysctl", "The kernel's settings", lambda: audit_access.measure_sysctls(asked["sysctl"])),
        (
            "updates/security",
            "Security updates that wait",
            lambda: audit_updates.measure_security(asked["lists_days"]),
        ),
        ("updates/automatic", "Security updates install themselves", audit_updates.measure_automatic),
        ("updates/restarts", "Services that run what an update replaced", audit_updates.measure_restarts),
        ("disk", "Files on the disks", audit_files.measure_disks),
    ]
    if certificate:
        words = [certificate[name] for name in ("path", "name", "port", "days")]
        found.append(("certificate", "The certificate", lambda: audit_network.measure_certificate(*words)))
    if asked["release_root"]:
        found.append(
            (
                "release/sbom",
                "Releases say what they are made of",
                lambda: audit_releases.measure(asked["release_root"]),
            )
        )
    if asked["lynis"]:
        found.append(("lynis", "lynis", lambda: audit_updates.measure_lynis(asked["lynis_index"])))
    return found


def measurements(asked: dict) -> list[dict]:
    """Return all measurements; what cannot be measured is unknown, with the reason."""
    found = []
    for name, title, measure in parts(asked):
        try:
            found += measure()
        except Unknown as why:
            found.append(unknown(name, title, str(why)))
        # Whatever one of them meets on a strange host, the others are still worth having.
        except (OSError, ValueError, LookupError) as error:
            found.append(unknown(name, title, f"{type(error).__name__}: {error}"))
    return found


def main() -> None:
    """Run the module."""
    options = {
        name: {"type": "list", "elements": "dict", "default": []}
        for name in ("units", "private", "listening")
    }
    options |= {name: {"type": "dict", "default": {}} for name in ("certificate", "sshd", "sysctl")}
    options["release_root"] = {"type": "path", "default": ""}
    options["lists_days"] = {"type": "float", "default": 2}
    options["lynis"] = {"type": "bool", "default": True}
    options["lynis_index"] = {"type": "int", "default": 65}
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    module.exit_json(changed=False, measurements=measurements(module.params))


if __name__ == "__main__":
    main()
