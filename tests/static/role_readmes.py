"""Write each role's README.md from its argument spec, so that the two cannot disagree.

python tests/static/role_readmes.py          # names the READMEs that are out of date
python tests/static/role_readmes.py --write  # writes them
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
HEAD = """\
# {role}

{does}.

## Variables

| name | type | default | description |
|---|---|---|---|
{rows}

<!-- Written by `python tests/static/role_readmes.py --write` from meta/; change it there. -->
"""


def readme(role_dir: Path) -> str:
    """Return a role's README."""
    galaxy = yaml.safe_load((role_dir / "meta/main.yml").read_text())["galaxy_info"]
    specs = yaml.safe_load((role_dir / "meta/argument_specs.yml").read_text())["argument_specs"]
    options = specs["main"].get("options") or {}
    # What must be given comes first: a reader in a hurry needs those rows alone.
    names = sorted(options, key=lambda name: not options[name].get("required", False))
    rows = "\n".join(row(name, options[name]) for name in names)
    return HEAD.format(role=galaxy["role_name"], does=galaxy["description"].rstrip("."), rows=rows)


def row(name: str, option: dict[str, Any]) -> str:
    """Return one line of the table."""
    default = "**required**" if option.get("required") else code(option.get("default"))
    return f"| `{name}` | {kind(option)} | {default} | {cell(description(option))} |"


def kind(option: dict[str, Any]) -> str:
    """Return an option's type, with that of its elements."""
    elements = option.get("elements")
    return f"{option['type']} of {elements}" if elements else option["type"]


def description(option: dict[str, Any]) -> str:
    """Return an option's description, with what it may be or holds."""
    text = option["description"].rstrip(".") + "."
    if option.get("choices"):
        text += f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}."
    if option.get("options"):
        parts = [
            f"`{name}` ({part['description'].rstrip('.').lower()})"
            for name, part in option["options"].items()
        ]
        text += f" Each holds {', '.join(parts)}."
    return text


def code(value: Any) -> str:
    """Return a value as an inventory would spell it."""
    return f"`{cell(value if isinstance(value, str) and value else json.dumps(value))}`"


def cell(text: str) -> str:
    """Return text that a table's cell can hold: a bare | would end it, in code as well."""
    return " ".join(text.split()).replace("|", "\\|")


def stale(root: Path) -> list[tuple[Path, str]]:
    """Return the READMEs that are not as they should be, each with its right content."""
    found = []
    for spec in sorted(root.glob("roles/*/meta/argument_specs.yml")):
        path, wanted = spec.parents[1] / "README.md", readme(spec.parents[1])
        if not path.exists() or path.read_text() != wanted:
            found.append((path, wanted))
    return found


def main(arguments: list[str]) -> int:
    """Write or name what is out of date."""
    found = stale(ROOT)
    for path, wanted in found:
        print(path.relative_to(ROOT))
        if "--write" in arguments:
            path.write_text(wanted)
    return 1 if found and "--write" not in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
