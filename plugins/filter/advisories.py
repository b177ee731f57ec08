"""Judge what pip-audit says, which takes a package it knows nothing of for a safe one."""

from __future__ import annotations

import json


class FilterModule:
    """Hand the filters to Ansible."""

    def filters(self) -> dict:
        """Return them by name."""
        return {"locked_packages": locked_packages, "advisories": advisories}


def locked_packages(sbom: dict) -> str:
    """Return the hashed requirements of a release's packages from the index, by its bill of materials."""
    lines = [
        f"{one['name']}=={one['version']}"
        + "".join(f" --hash=sha256:{digest['content']}" for digest in one["hashes"])
        for one in sbom["components"]
        if one.get("purl", "").startswith("pkg:pypi/")
    ]
    return "".join(f"{line}\n" for line in lines)


def advisories(said: dict, asked: str, waivers: list[dict]) -> dict:
    """Return what is wrong with a release's packages, and what nobody can tell.

    `unknown` says why there is no answer, for one package or for all; `found` and `waived` are advisories in
    words. Only with none of the first two is a release known to be free of what advisories tell.

    :param said: how pip-audit ended: `rc`, `stdout`, `stderr`.
    :param asked: the requirements that it was given.
    :param waivers: what was judged and let be: each with the `id` of an advisory, or an alias, and `reason`.
    """
    try:
        told = json.loads(said["stdout"])["dependencies"]
    except (ValueError, KeyError, TypeError):
        lines = [line for line in said.get("stderr", "").splitlines() if line.strip()] or ["nothing"]
        return {"unknown": [f"pip-audit got no answer: {lines[-1].strip()}"], "found": [], "waived": []}
    reasons = {one["id"]: one["reason"] for one in waivers}
    result: dict[str, list[str]] = {"unknown": [], "found": [], "waived": []}
    for package in told:
        if "skip_reason" in package:
            result["unknown"].append(f"{package['name']}: {package['skip_reason']}")
        for one in package.get("vulns", []):
            waived = [reasons[name] for name in (one["id"], *one.get("aliases", [])) if name in reasons]
            words = f"{package['name']} {package['version']}: {one['id']}"
            words += (
                f" (cured in {', '.join(one['fix_versions'])})" if one["fix_versions"] else " (no cure yet)"
            )
            result["waived" if waived else "found"].append(f"{words}: {waived[0]}" if waived else words)
    missing = {line.split("==")[0] for line in asked.splitlines()} - {package["name"] for package in told}
    result["unknown"] += [f"{name}: pip-audit does not name it" for name in sorted(missing)]
    return result
