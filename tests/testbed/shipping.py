"""Two plain hosts, of which one watches the other: journals are shipped, and the app itself is left out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from target_host import api

from testbed import certifying, sites
from testbed.plays import Play
from testbed.sites import Member, Site

PORT = 19532
RECEIVED_DIR = "/var/log/journal/remote"


@dataclass(frozen=True)
class Pair(Member):
    """One of the two, before it exists."""

    letter = "j"
    network = 215
    first_ssh_port = 2355

    @property
    def name(self) -> str:
        """Its name in the inventory of both."""
        return ("www1", "watch1")[self.number]

    @property
    def group_vars(self) -> dict[str, Any]:
        """What the inventory says of both."""
        return {**super().group_vars, "nginx_internal_address": "{{ base_address }}"}


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


def start(members: list[Pair], say: Callable[[str], None]) -> Shipping:
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
