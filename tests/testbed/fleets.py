"""Several app hosts with their database and Redis on another one, made side by side from one inventory.

Provisioned from plain Debian once, by one site.yml. While nothing they were made of changes, later sessions
start all of them from two images: that of the database's host, and that of the first app host, which the
others are like to the last file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from target_host import api
from target_host.shell import turn

from testbed import converged, durations, plays, sites
from testbed.plays import Play
from testbed.sites import INNER_PORTS, SLOT, Member, Site

APPS = ("app1", "app2", "app3")
DATA = "data1"
GROUPS = {"app_servers": APPS, "databases": (DATA,), "brokers": (DATA,)}
# How far from what the hosts listen on inside, and how many app hosts a slot has room for.
SHIFT, ROOM = -2000, 4
# Of two releases on three hosts, with what is kept for people.
MAX_CONNECTIONS = 160


@dataclass(frozen=True)
class FleetMember(Member):
    """One host of a fleet before it exists."""

    letter = "f"
    network = 213
    first_ssh_port = 2300
    ssh_ports = 5

    @property
    def name(self) -> str:
        """Its name in the fleet's inventory."""
        return (*APPS, DATA)[self.number]

    @property
    def address(self) -> str:
        """Its address for the others."""
        return (
            f"10.{self.network}.{10 * SLOT + self.debian % 10}.21" if self.name == DATA else super().address
        )

    @property
    def published(self) -> tuple[int, int] | None:
        """Its plain and its TLS port on the loopback."""
        shift = SHIFT + ROOM * SLOT + self.number
        return None if self.name == DATA else tuple(port + shift for port in INNER_PORTS[self.debian])

    @property
    def group_vars(self) -> dict[str, Any]:
        """What the fleet's inventory says of all its hosts."""
        return {
            **super().group_vars,
            "postgresql_max_connections": MAX_CONNECTIONS,
            "app_web_workers": 2,
            # Three hosts share one machine's cores: what is good takes longer to get ready.
            "app_start_timeout_seconds": 60,
        }


@dataclass
class Fleet:
    """A running fleet."""

    apps: list[Site]
    data: Site
    say: Callable[[str], None]
    first_play: Play | None = None
    """How it was provisioned, if that was in this session."""
    last_plays: list[Play] = field(default_factory=list)

    @property
    def sites(self) -> list[Site]:
        """All its hosts."""
        return [*self.apps, self.data]

    @property
    def app(self) -> str:
        """The name of the app."""
        return self.data.app

    def play(self, playbook: str, *arguments: str, **options: Any) -> Play:
        """Run a playbook against the whole fleet and return how it went."""
        name = self.data.declaration.inventory_name
        found = plays.run(self.data.inventory.path, playbook, arguments, name=name, say=self.say, **options)
        for site in self.sites:
            site.last_plays.append(found)
        return found


@contextmanager
def owned(debian: int, keep: bool) -> Iterator[list[FleetMember]]:
    """Declare a fleet that this process alone uses; remove it at the end unless it is to be kept."""
    members = [FleetMember("fleet", debian, number) for number in range(len(APPS) + 1)]
    fleet = SimpleNamespace(name=members[0].inventory_name, path=members[0].path)
    with sites.owned(fleet):
        for log in plays.LOG_DIR.glob(f"{fleet.name}-*.log"):
            log.unlink()
        try:
            _remove(members)
            yield members
        finally:
            if not keep:
                _remove(members)


def _remove(members: list[FleetMember]) -> None:
    for member in members:
        sites.RUNNING.pop(member.name, None)
    api.down(members[0].path, log=lambda line: None)


def start(members: list[FleetMember], say: Callable[[str], None]) -> Fleet:
    """Return a provisioned fleet: from its images, or from plain Debian by site.yml."""
    data, first = members[-1], members[0]
    name = first.inventory_name
    made_from = SimpleNamespace(
        debian=first.debian,
        group_vars={**first.group_vars, "hosts": [(member.name, member.address) for member in members]},
    )
    digest = f"{first.debian}-{converged.CHECKOUT}-{converged.digest(made_from)}"
    # By its first three letters an image knows its older ones, which it replaces.
    tags = {data: f"d{digest}", first: f"a{digest}"}
    with turn(f"converged-fleet-{first.debian}"):
        if all(map(converged.is_kept, tags.values())):
            shutil.copytree(converged.STATE_DIR / tags[data], first.state_dir, dirs_exist_ok=True)
            (first.state_dir / "image").unlink()
            with durations.measured(f"{name} start from its converged images"):
                images = {
                    member: f"{converged.REPOSITORY}:{tags[data if member is data else first]}"
                    for member in members
                }
                return _up(members, images, say)
        with durations.measured(f"{name} start from plain Debian"):
            fleet = _up(members, {}, say)
        fleet.first_play = fleet.play(
            "site", "-vv", label="site.yml on four fresh hosts", timeout_seconds=1200
        ).ok()
        durations.record(f"{name} site.yml on four fresh hosts", fleet.first_play.seconds)
        with durations.measured(f"{name} keep it as images"):
            converged.keep(fleet.data, tags[data])
            converged.keep(fleet.apps[0], tags[first])
        return fleet


def _up(members: list[FleetMember], images: dict[FleetMember, str], say: Callable[[str], None]) -> Fleet:
    path = members[0].path
    shutil.rmtree(path, ignore_errors=True)
    hosts = {member.name: member.host_vars(images.get(member)) for member in members}
    api.write_inventory(path, hosts, groups=GROUPS, group_vars=members[0].group_vars)
    ports = [port for member in members for port in member.outer_ports]
    sites.until(sites.PORTS_TIMEOUT_SECONDS, lambda: all(map(sites.is_free, ports)))
    inventory = api.up(path, log=lambda line: None)
    made = [Site(member, inventory, say) for member in members]
    sites.RUNNING.update({site.name: site for site in made})
    return Fleet(made[:-1], made[-1], say)
