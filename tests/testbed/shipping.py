"""Two plain hosts, of which one watches the other: journals are shipped, and the app itself is left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from target_host import api
from target_host.shell import PROJECT_DIR

from testbed import certifying, sites
from testbed.plays import Play
from testbed.sites import SLOT, Declaration, Site

FIRST_SSH_PORT = 2355
PORT = 19532
RECEIVED_DIR = "/var/log/journal/remote"


@dataclass(frozen=True)
class Member(Declaration):
    """One of the two, before it exists."""

    number: int = 0

    @property
    def name(self) -> str:
        """Its name in the inventory of both."""
        return ("www1", "watch1")[self.number]

    @property
    def inventory_name(self) -> str:
        """The name of the inventory of both, also in the names of their containers."""
        return f"j{self.debian}" + (f"-{SLOT}" if SLOT else "")

    @property
    def path(self) -> Path:
        """The folder of that inventory."""
        return sites.INVENTORY_DIR / self.inventory_name

    @property
    def state_dir(self) -> Path:
        """Where the keys of both are made."""
        return PROJECT_DIR / ".local" / self.inventory_name

    @property
    def address(self) -> str:
        """Its address for the other one."""
        return f"10.215.{10 * SLOT + self.debian % 10}.{11 + self.number}"

    @property
    def published(self) -> None:
        """It publishes no port but sshd's."""

    @property
    def ssh_port(self) -> int:
        """Its sshd's port on the loopback."""
        return FIRST_SSH_PORT + 60 * SLOT + 2 * (self.debian == 12) + self.number

    @property
    def group_vars(self) -> dict[str, Any]:
        """What the inventory says of both."""
        return {**super().group_vars, "nginx_internal_address": "{{ base_address }}"}

    def host_vars(self, image: str | None = None) -> dict[str, Any]:
        """Return what makes the container, and its address."""
        return {**super().host_vars(image), "base_address": self.address}


@dataclass
class Shipping:
    """Both hosts."""

    shipper: Site
    receiver: Site

    def play(self, playbook: str, *arguments: str, label: str) -> Play:
        """Run a playbook for both, as far as it is about the firewall and journals."""
        words = ["--tags", "firewall,journal", *arguments]
        found = self.shipper.play(playbook, *words, label=label)
        self.receiver.last_plays.append(found)
        return found

    def received(self, *matches: str) -> list[dict[str, Any]]:
        """Return the lines of the shipper that the receiver has."""
        name = self.shipper.sudo("hostname").strip()
        words = " ".join([f"_HOSTNAME={name}", *matches])
        said = self.receiver.sudo(f"journalctl --directory {RECEIVED_DIR} --no-pager -o json --all {words}")
        return [json.loads(line) for line in said.splitlines()]


def start(members: list[Member], say: Callable[[str], None]) -> Shipping:
    """Start two plain hosts of one inventory."""
    path = members[0].path
    shutil.rmtree(path, ignore_errors=True)
    hosts = {member.name: member.host_vars() for member in members}
    shipper, receiver = hosts
    # What the app needs is left out; preflight must know where it would be.
    groups = {
        "app_servers": [shipper],
        "databases": [shipper],
        "brokers": [shipper],
        "monitoring": [receiver],
    }
    api.write_inventory(path, hosts, groups=groups, group_vars=members[0].group_vars)
    ports = [port for member in members for port in member.outer_ports]
    sites.until(sites.PORTS_TIMEOUT_SECONDS, lambda: all(map(sites.is_free, ports)))
    inventory = api.up(path, log=lambda line: None)
    found = [Site(member, inventory, say) for member in members]
    sites.RUNNING.update({site.name: site for site in found})
    certifying.prepare(found[0])
    return Shipping(*found)
