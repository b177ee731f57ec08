"""What an inventory says about its target hosts, and writing one for a test."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from target_host.shell import PROJECT_DIR, TargetHostError, run

USER = "admin"
RELEASES = {12: "bookworm", 13: "trixie"}
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_PORTS = re.compile(r"(\d{1,5}):(\d{1,5})")


@dataclass(frozen=True)
class Host:
    """One target host as the inventory declares it."""

    name: str
    ssh_port: int
    ports: tuple[str, ...] = ()
    debian: int = 13
    image: str | None = None
    url: str | None = None
    app: str | None = None
    ops_prefix: str = ""
    address: str | None = None


@dataclass(frozen=True)
class Inventory:
    """An inventory's place, its name, and its target hosts."""

    path: Path
    hosts: tuple[Host, ...]
    state_dir: Path

    @property
    def name(self) -> str:
        """The inventory's folder name: the word in container names and below `.local/`."""
        return inventory_name(self.path)

    def host(self, name: str | None = None) -> Host:
        """Return the host `name`, or the first one.

        Raises TargetHostError naming those that exist.
        """
        for host in self.hosts:
            if name in (None, host.name):
                return host
        known = ", ".join(host.name for host in self.hosts) or "none"
        raise TargetHostError(f"{self.path} has no target host {name or ''}; it has: {known}")


def inventory_name(path: Path) -> str:
    """Return the name of the inventory at `path`, a folder or a file in one.

    Raises TargetHostError for a name that cannot be part of a container's name.
    """
    path = path.resolve()
    name = path.parent.name if path.is_file() else path.name
    if not _NAME.fullmatch(name):
        raise TargetHostError(f"inventory name {name!r}: use lower-case letters, digits and '-', up to 40")
    return name


def state_dir_of(path: Path) -> Path:
    """Return where the keys and secrets of the inventory at `path` live."""
    return PROJECT_DIR / ".local" / inventory_name(path)


def read(path: Path, state_dir: Path | None = None) -> Inventory:
    """Ask ansible-inventory what is in the inventory at `path`.

    Raises TargetHostError when it does not parse or a variable is not usable.
    """
    if not path.exists():
        raise TargetHostError(f"there is no inventory {path}")
    program = PROJECT_DIR / ".venv/bin/ansible-inventory"
    if not program.exists():
        raise TargetHostError("there is no .venv yet; run: make venv")
    listing = run(
        [str(program), "--inventory", str(path), "--list"],
        env={"ANSIBLE_CONFIG": str(PROJECT_DIR / "ansible.cfg")},
    )
    hosts = parse(json.loads(listing.stdout)["_meta"]["hostvars"])
    return Inventory(path, hosts, state_dir or state_dir_of(path))


def parse(hostvars: Mapping[str, Mapping[str, Any]]) -> tuple[Host, ...]:
    """Turn ansible-inventory's `hostvars` into target hosts, in the inventory's order.

    Raises TargetHostError for a variable that is not usable, or a port that two hosts claim.
    """
    hosts = tuple(_host(name, values) for name, values in hostvars.items() if "target_host_ports" in values)
    claimed: dict[int, str] = {}
    for host in hosts:
        for port in (host.ssh_port, *(int(pair.partition(":")[0]) for pair in host.ports)):
            if port in claimed:
                raise TargetHostError(f"port {port} is claimed by {claimed[port]} and by {host.name}")
            claimed[port] = host.name
    return hosts


def _host(name: str, values: Mapping[str, Any]) -> Host:
    def refuse(variable: str, wanted: str) -> TargetHostError:
        return TargetHostError(f"{name}: {variable} is {values.get(variable)!r}; it must be {wanted}")

    if not _NAME.fullmatch(name):
        raise TargetHostError(f"target host name {name!r}: use lower-case letters, digits and '-', up to 40")
    ssh_port = values.get("ansible_port")
    if not _is_port(ssh_port):
        raise refuse("ansible_port", "a loopback port for its sshd, such as 2201")
    ports = values["target_host_ports"]
    if not isinstance(ports, list) or not all(_is_pair(pair) for pair in ports):
        # Unquoted, YAML 1.1 reads 22:22 as the number 1342.
        raise refuse("target_host_ports", 'a list of quoted pairs such as ["8443:8443"]')
    debian = values.get("target_host_debian", 13)
    if debian not in RELEASES:
        raise refuse("target_host_debian", " or ".join(map(str, RELEASES)))
    return Host(
        name=name,
        ssh_port=ssh_port,
        ports=tuple(ports),
        debian=debian,
        image=values.get("target_host_image"),
        url=values.get("target_host_url"),
        app=values.get("app_name"),
        ops_prefix=values.get("app_ops_prefix", ""),
        address=_address(name, values.get("base_address")),
    )


def _address(name: str, value: object) -> str | None:
    try:
        return str(ipaddress.IPv4Address(str(value))) if value else None
    except ValueError:
        raise TargetHostError(
            f"{name}: base_address is {value!r}; it must be an address such as 10.0.0.11"
        ) from None


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536


def _is_pair(value: object) -> bool:
    match = _PORTS.fullmatch(value) if isinstance(value, str) else None
    return match is not None and all(_is_port(int(port)) for port in match.groups())


def connection_vars(state_dir: Path) -> dict[str, Any]:
    """Return the variables by which Ansible reaches target hosts whose keys are in `state_dir`."""
    ssh_dir = state_dir.resolve() / "ssh"
    return {
        "ansible_host": "127.0.0.1",
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(ssh_dir / "id_ed25519"),
        # Quoted twice: Ansible splits the line, then ssh splits this option's value.
        "ansible_ssh_common_args": f"-o 'UserKnownHostsFile=\"{ssh_dir}/known_hosts\"'"
        " -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes",
        "target_host_state_dir": str(state_dir.resolve()),
    }


def write_inventory(
    path: Path,
    hosts: Mapping[str, Mapping[str, Any]],
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    group_vars: Mapping[str, Any] | None = None,
    state_dir: Path | None = None,
) -> Path:
    """Write an inventory folder for a test and return it.

    `hosts` gives each host's own variables (`ansible_port`, `target_host_ports`, …), `groups` the hosts of
    each group, `group_vars` the variables of all. Its name, `path.name`, must be unlike every other
    inventory's that runs at the same time: it names the containers.
    """
    state_dir = state_dir or state_dir_of(path)
    everything = {
        "all": {
            "hosts": {name: dict(values) for name, values in hosts.items()},
            "vars": {**connection_vars(state_dir), **(group_vars or {})},
            "children": {
                group: {"hosts": {name: {} for name in members}} for group, members in (groups or {}).items()
            },
        }
    }
    path.mkdir(parents=True, exist_ok=True)
    # JSON is YAML, and needs no library.
    (path / "hosts.yml").write_text(json.dumps(everything, indent=2) + "\n")
    return path
