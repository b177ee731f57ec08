"""Run roles' own checks over many hosts at once, each a case, and read what each was refused with."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from rendering import environment


def slug(name: str) -> str:
    """Return a case's name as a host's."""
    return name.replace(" ", "-").replace("'", "")


def play(folder: Path, plays: list[dict], inventory: dict[str, Any]) -> str:
    """Run plays over an inventory; return all that a person would have seen.

    Raises AssertionError if no host was refused anything.
    """
    (folder / "site.yml").write_text(yaml.safe_dump(plays))
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": inventory}, sort_keys=False))
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    done = subprocess.run(
        [program, "--inventory", "hosts.yml", "site.yml"],
        cwd=folder,
        env={**environment(folder), "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 2, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def refusals(said: str, host: str) -> str:
    """Return the messages a host was refused with."""
    lines = re.findall(rf"^(?:fatal|failed): \[{re.escape(host)}\].*? => (\{{.*\}})$", said, re.MULTILINE)
    return "\n".join(json.loads(line).get("msg", "") for line in lines)


def assert_passed(said: str, host: str) -> None:
    """Hold that a host was looked at and refused nothing."""
    assert f"{host} " in said.partition("PLAY RECAP")[2]
    assert refusals(said, host) == ""


def assert_refused(said: str, host: str, words: list[str]) -> None:
    """Hold that a host was refused something, in a message that names it and has these words."""
    found = refusals(said, host)
    for word in [host, *words]:
        assert word in found, found
