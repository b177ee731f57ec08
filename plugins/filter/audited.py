"""Hold an audit's measurements against the waivers, and sum them up."""

from __future__ import annotations

import fnmatch

ORDER = ("failed", "unknown", "waived", "passed")


class FilterModule:
    """Hand the filters to Ansible."""

    def filters(self) -> dict:
        """Return them by name."""
        return {"audited": audited}


def audited(measured: dict[str, list[dict]], waivers: list[dict], at: str) -> dict:
    """Return a report: every host's measurements, the worst first, and the waivers that counted for nothing.

    A waiver takes a failure for known and let be; it turns nothing else. Nobody's silence is a pass: a host
    that was not measured stands in the report as that.

    :param measured: by host; nothing for one that was not measured.
    :param waivers: each with `id`, a pattern; `reason`; and `host`, a pattern, where it is not for all.
    """
    used: list[dict] = []
    hosts = {host: judged(host, found, waivers, used) for host, found in measured.items() if found}
    everything = [one for found in hosts.values() for one in found]
    return {
        "at": at,
        "hosts": hosts,
        "missing": sorted(host for host, found in measured.items() if not found),
        "counts": {state: sum(one["state"] == state for one in everything) for state in ORDER},
        "unused_waivers": [waiver for waiver in waivers if waiver not in used],
    }


def judged(host: str, found: list[dict], waivers: list[dict], used: list[dict]) -> list[dict]:
    """Return a host's measurements in order, waived ones with the reason; note which waivers counted."""
    result = []
    for one in found:
        judgement = {"reason": "", **one}
        for waiver in waivers if one["state"] == "failed" else []:
            fits = fnmatch.fnmatchcase(one["id"], waiver["id"])
            if fits and fnmatch.fnmatchcase(host, waiver.get("host", "*")):
                judgement |= {"state": "waived", "reason": waiver["reason"]}
                used.append(waiver)
                break
        result.append(judgement)
    return sorted(result, key=lambda one: (ORDER.index(one["state"]), one["id"]))
