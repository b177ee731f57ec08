"""Whether every release on the host says what it is made of, and still is what it says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ansible.module_utils.audit_measurement import Unknown, listed, measurement

SBOM = "sbom.cdx.json"


def measure(root: str) -> list[dict]:
    """Return which releases below an app's folder lack their bill of materials, or have another."""
    folders = sorted(path for path in Path(root, "releases").glob("[0-9]*") if path.is_dir())
    if not folders:
        raise Unknown(f"no release is staged below {root}")
    wrong = [f"{folder.name} {problem}" for folder in folders if (problem := problem_of(folder))]
    said = listed(wrong, f"{len(folders)} releases, each with its own")
    title, expected = (
        "Releases say what they are made of",
        "a bill of materials in each, as release.json has it",
    )
    return [
        measurement(
            "release/sbom",
            title,
            expected,
            said,
            passed=not wrong,
            cure="ansible-playbook playbooks/deploy.yml",
        )
    ]


def problem_of(folder: Path) -> str:
    """Return what is wrong with a release's bill of materials, in words, empty where it is right."""
    wanted = json.loads((folder / "release.json").read_text())["files"].get(SBOM)
    if wanted is None:
        return "was built without one"
    if not (folder / SBOM).is_file():
        return "lacks it"
    digest = hashlib.sha256((folder / SBOM).read_bytes()).hexdigest()
    return "" if digest == wanted else "has another one"
