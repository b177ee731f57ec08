"""Say what a release is made of: its bill of materials, as CycloneDX 1.6 has it.

Written out here, and held against the schema in tests: the library for it takes longer to import than a
change of code takes to build. The same content is the same bytes, whatever wrote it.
"""

from __future__ import annotations

import uuid
from urllib.parse import quote

from ansible.module_utils.release_lock import Entry, Target, Wheel

SBOM = "sbom.cdx.json"
# Of names for releases' bills: any fixed one would do.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://cyclonedx.org/schema/bom-1.6.schema.json")


def bill(
    root: dict, built_at: str, target: Target, own: list[Wheel], locked: list[tuple[Wheel, Entry]]
) -> dict:
    """Return the bill of a release.

    `root` is its app, `version` and `digest`; `own` are wheels built here, `locked` those of the index, each
    with what the lock says of it.
    """
    components = [component(wheel, None) for wheel in own] + [component(*pair) for pair in locked]
    components.sort(key=lambda one: one["bom-ref"])
    app = {
        "type": "application",
        "bom-ref": root["app"],
        "name": root["app"],
        "version": root["version"],
        "properties": [
            {"name": "python", "value": target.minor},
            {"name": "platform", "value": target.platform},
            {"name": "revision", "value": root["revision"]},
        ],
    }
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(NAMESPACE, root["digest"]).urn,
        "version": 1,
        "metadata": {"timestamp": built_at, "component": app},
        "components": components,
        "dependencies": [{"ref": root["app"], "dependsOn": [one["bom-ref"] for one in components]}],
    }


def component(wheel: Wheel, entry: Entry | None) -> dict:
    """Return what is known of a package: by its wheel, and by the lock where it comes from the index."""
    said = wheel.metadata
    found = {
        "type": "library",
        "bom-ref": f"{said['name']}@{said['version']}",
        "name": said["name"],
        "version": said["version"],
        "hashes": [{"alg": "SHA-256", "content": wheel.sha256}],
    }
    if entry:  # one that was built here would be taken for somebody else's of its name
        found["purl"] = purl(said, entry)
    if said["licences"]:
        found["licenses"] = said["licences"]
    return found


def purl(said: dict, entry: Entry) -> str:
    """Return a package's URL, with where it was fetched from if that is not the index."""
    where = f"?download_url={quote(entry.version, safe='')}" if "://" in entry.version else ""
    return f"pkg:pypi/{said['name']}@{quote(said['version'], safe='')}{where}"
