"""How much of the host a service could reach, as systemd counts it: 0 nothing, 10 all of it."""

from __future__ import annotations

import fnmatch
import json

from ansible.module_utils.audit_measurement import ask, measurement, unknown


def measure(limits: list[dict]) -> list[dict]:
    """Return the exposure of services beside their limits.

    `limits` each hold a `unit`, or a pattern of running ones, the `limit`, and `optional`, where a host need
    not have it.
    """
    table = {
        row["unit"]: float(row["exposure"])
        for row in json.loads(ask("systemd-analyze", "security", "--json=short"))
    }
    found = []
    for one in limits:
        name, title = f"unit/{one['name']}", f"Exposure of {one['name']}"
        units = {unit: table[unit] for unit in sorted(table) if fnmatch.fnmatch(unit, one["unit"])}
        if not units:
            if not one.get("optional"):
                found.append(unknown(name, title, f"no unit {one['unit']} is loaded"))
            continue
        worst = max(units, key=units.get)
        said = ", ".join(f"{unit} {exposure:g}" for unit, exposure in units.items())
        passed = units[worst] <= one["limit"]
        cure = f"systemd-analyze security {worst}"
        found.append(measurement(name, title, f"at most {one['limit']:g}", said, passed=passed, cure=cure))
    return found
