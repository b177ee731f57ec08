"""Run the roles' own rendering tasks, and no others, into a folder that stands for `/`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = Path(__file__).with_name("inventory.yml")
ROLES = ("base", "app", "nginx", "exporters", "journal", "monitoring")
# base knows no app: once a host is enough, and half a second less for each that is left out.
PLAYS = ({"hosts": "all:!board-*", "roles": ["base"]}, {"hosts": "all", "roles": ["app", "nginx"]})
WATCHED = (
    {"hosts": "all", "roles": ["exporters", "journal"]},
    {"hosts": "monitoring", "roles": ["monitoring"]},
)
# What needs the host itself: its accounts, its programs, and where else somebody may have written.
HOST_OPTIONS = ("owner", "group", "validate", "validate_fail_on_stderr", "validate_ignore", "absent")
HOST_OPTIONS += ("exclusive", "exclusive_roots", "backup_dir")


@dataclass(frozen=True)
class Host:
    """What one inventory puts on one host."""

    name: str
    root: Path

    @property
    def debian(self) -> int:
        return int(self.name[-2:])

    @property
    def app(self) -> str:
        return "a-b_c9" if self.name.startswith("odd") else self.name[:-3]

    @property
    def odd(self) -> bool:
        return self.name.startswith("odd")

    @property
    def companions(self) -> list[str]:
        """What follows the web instance of a release."""
        return (
            ["worker", "flower"] if self.odd else ["worker", "beat", "flower"] if self.app == "inbox" else []
        )

    @property
    def health_port(self) -> str:
        """The port that answers health to any Host, empty where there is none."""
        return "8081" if self.odd else "8082" if self.app == "board" else ""

    @property
    def files(self) -> list[str]:
        """The paths of what was rendered, as they are on a host."""
        return sorted(f"/{path.relative_to(self.root)}" for path in self.root.rglob("*") if path.is_file())

    def read(self, path: str) -> str:
        return (self.root / path.lstrip("/")).read_text()

    @property
    def sites(self) -> list[str]:
        """The paths of its sites."""
        return [path for path in self.files if path.startswith("/etc/nginx/sites-enabled/")]

    @property
    def site(self) -> str:
        return self.read(f"/etc/nginx/sites-enabled/{self.app}.conf")

    @property
    def plain(self) -> str:
        return self.read(f"/etc/nginx/sites-enabled/{self.app}.plain.conf")


@dataclass(frozen=True)
class Rendered:
    """Every host of the inventory, by name."""

    hosts: dict[str, Host]


def rendering_tasks(role: str) -> list[dict[str, Any]]:
    """Return tasks that render what a role's own tasks render, into the folder `render_root`.

    They are made from the role's, so that what is tested is the role's own list of files and names.
    """
    found = []
    for path in sorted((ROOT / f"roles/{role}/tasks").glob("*.yml")):
        for task in yaml.safe_load(path.read_text()):
            # releasectl's tree is Python that Ansible copies as it is.
            if task.get("mirror", {}).get("tree", "releasectl") != "releasectl":
                args = {key: value for key, value in task["mirror"].items() if key not in HOST_OPTIONS}
                found.append(
                    {"name": task["name"], "mirror": args | {"dest": "{{ render_root }}" + args["dest"]}}
                )
    templates = [source.removesuffix(".j2") for source in template_tasks(role)]
    if templates:
        # One round trip for all of a role's templates; `land` then puts each where the role would.
        args = {"tree": ".", "dest": "{{ render_root }}/" + role, "files": templates}
        found.append({"name": "Render templates", "mirror": args})
    return found


def template_tasks(role: str) -> dict[str, str]:
    """Return what a role's template tasks render: source to destination, the loop of a task rolled out."""
    found = {}
    for path in sorted((ROOT / f"roles/{role}/tasks").glob("*.yml")):
        for task in yaml.safe_load(path.read_text()):
            args = task.get("ansible.builtin.template")
            for item in task.get("loop", [args]) if args else []:
                found[item["src"]] = item["dest"]
    return found


def land(host: Host) -> None:
    """Move a host's rendered templates from their roles' folders to where they land."""
    for role in [role for role in ROLES if (host.root / role).exists()]:
        for source, destination in template_tasks(role).items():
            target = host.root / destination.replace("{{ app_name }}", host.app).lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            (host.root / role / source.removesuffix(".j2")).rename(target)
        (host.root / role).rmdir()


def project(folder: Path, plays: Sequence[dict[str, Any]]) -> Path:
    """Write a project of the roles' rendering tasks, all else linked to the real one; return its playbook."""
    for role in ROLES:
        role_dir = folder / "roles" / role
        (role_dir / "tasks").mkdir(parents=True)
        for part in ("defaults", "vars", "templates"):
            if (ROOT / f"roles/{role}/{part}").exists():
                (role_dir / part).symlink_to(ROOT / f"roles/{role}/{part}")
        (role_dir / "tasks/main.yml").write_text(yaml.safe_dump(rendering_tasks(role), sort_keys=False))
    (folder / "group_vars").mkdir()
    (folder / "group_vars/all").symlink_to(ROOT / "playbooks/group_vars")
    # A cacheable fact is what `setup` would have found; nothing is asked of this machine.
    facts = {"distribution_major_version": "{{ debian }}", "processor_nproc": 2, "cacheable": True}
    pretend = {"name": "Pretend to be that host", "ansible.builtin.set_fact": facts}
    play = {
        "name": "Render",
        "gather_facts": False,
        "vars": {"render_root": f"{folder}/hosts/{{{{ inventory_hostname }}}}"},
        "pre_tasks": [pretend],
    }
    playbook = folder / "render.yml"
    # Written out each time: an anchor would be read as one play's.
    playbook.write_text(json.dumps([play | each for each in plays], indent=1))
    return playbook


def environment(folder: Path) -> dict[str, str]:
    """Return the project's own settings of Ansible, as far as they decide what is rendered."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    return {
        **kept,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_ROLES_PATH": str(folder / "roles"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_LOCAL_TEMP": str(folder / ".ansible"),
        "ANSIBLE_REMOTE_TEMP": str(folder / ".ansible"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_FORKS": str(os.cpu_count() or 2),
    }


def render(folder: Path, inventory: Path = INVENTORY, plays: Sequence[dict[str, Any]] = PLAYS) -> Rendered:
    """Render every host of an inventory below `folder`.

    Raises AssertionError with Ansible's words when a file does not render.
    """
    playbook = project(folder, plays)
    (folder / "hosts").mkdir()
    names = list(yaml.safe_load(inventory.read_text())["all"]["children"].values())
    hosts = {name: Host(name, folder / "hosts" / name) for group in names for name in group.get("hosts", ())}
    program = Path(sys.executable).with_name("ansible-playbook")
    done = subprocess.run(
        [str(program), "--inventory", str(inventory), str(playbook)],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    warnings = [line for line in done.stderr.splitlines() if re.match(r"\[(WARNING|DEPRECATION)", line)]
    assert not warnings, "\n".join(warnings)
    for host in hosts.values():
        land(host)
    return Rendered(hosts)
