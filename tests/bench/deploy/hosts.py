"""The hosts that are deployed to, in one inventory: one with everything on it, or several with one database.

One is started from the image that tests/testbed keeps of such a host; several are provisioned anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from target_host import api, keys
from testbed import converged, sites
from testbed.https import Client
from testbed.sites import Declaration, Site
from testbed.webhooks import Sender

MOST = 12
# Of which the first host alone is one.
DATA_GROUPS = ("databases", "brokers")
# Of two apps with two releases each on as many hosts as there may be.
MAX_CONNECTIONS = 800
NETWORK = "10.217"
# Where no host of tests/testbed listens, whatever its slot.
FIRST_SSH_PORT, FIRST_HTTP_PORT, FIRST_HTTPS_PORT, APART = 2300, 19080, 19443, 10


@dataclass(frozen=True)
class Hosts(Declaration):
    """The hosts before they exist; what is said of "the" host is said of the first.

    :param count: how many, :data:`MOST` at most.
    """

    count: int = 1

    @property
    def name(self) -> str:
        """The first host's name, and the inventory's."""
        return f"d{self.debian}" + (f"-{sites.SLOT}" if sites.SLOT else "")

    @property
    def names(self) -> list[str]:
        """All hosts' names."""
        return [self.name, *(f"{self.name}-host{number}" for number in range(2, self.count + 1))]

    @property
    def group_vars(self) -> dict[str, Any]:
        """What the tests' hosts declare, but for their impatience: here no release is broken on purpose."""
        declared = super().group_vars
        del declared["app_start_timeout_seconds"]
        if self.count > 1:
            declared["postgresql_max_connections"] = MAX_CONNECTIONS
        return declared

    def ssh_port_of(self, number: int) -> int:
        """Return a host's sshd port on the loopback; the first host is number 0."""
        return FIRST_SSH_PORT + number + 60 * sites.SLOT

    def published_of(self, number: int) -> tuple[int, int]:
        """Return a host's plain and TLS port on the loopback."""
        shift = APART * number + sites.SLOT
        return FIRST_HTTP_PORT + shift, FIRST_HTTPS_PORT + shift

    def address_of(self, number: int) -> str:
        """Return a host's address for the others."""
        return f"{NETWORK}.{10 * sites.SLOT + self.debian % 10}.{11 + number}"

    @property
    def ssh_port(self) -> int:
        """The first host's."""
        return self.ssh_port_of(0)

    @property
    def published(self) -> tuple[int, int]:
        """The first host's."""
        return self.published_of(0)

    @property
    def outer_ports(self) -> tuple[int, ...]:
        """All hosts' ports on the loopback."""
        each = range(self.count)
        return tuple(port for n in each for port in (self.ssh_port_of(n), *self.published_of(n)))

    def all_host_vars(self, image: str | None = None) -> dict[str, dict[str, Any]]:
        """Return what makes each container."""
        inner = sites.INNER_PORTS[self.debian]
        found = {}
        for number, name in enumerate(self.names):
            pairs = zip(self.published_of(number), inner, strict=True)
            found[name] = {
                "ansible_port": self.ssh_port_of(number),
                "target_host_ports": [f"{outer}:{port}" for outer, port in pairs],
                "target_host_debian": self.debian,
                **({"base_address": self.address_of(number)} if self.count > 1 else {}),
                **({"target_host_image": image} if image else {}),
            }
        return found

    def write(self, image: str | None = None) -> Path:
        """Write the inventory."""
        return self.write_for(self.path, self.group_vars, image)

    def write_for(self, path: Path, variables: dict[str, Any], image: str | None = None) -> Path:
        """Write an inventory of an app on these hosts.

        :param variables: what it declares.
        """
        hosts = self.all_host_vars(image)
        groups = {"app_servers": self.names} | {group: [self.name] for group in DATA_GROUPS}
        return api.write_inventory(path, hosts, groups=groups, group_vars=variables, state_dir=self.state_dir)


@dataclass(frozen=True)
class App:
    """An app on one of the hosts: what the load generator of tests/scenario asks of a site.

    :param site: the first host, for its keys.
    :param host: the name of the app's own host.
    :param app: the app's name.
    """

    site: Site
    host: str
    app: str
    web: Client

    @property
    def sender(self) -> Sender:
        """Somebody whose webhooks it takes."""
        return Sender(self.web, self.site.state_dir / "secrets")

    def sudo(self, command: str, *, user: str = "root", timeout_seconds: float = 600) -> str:
        """Run a shell command on its host and return what it printed.

        :raises TargetHostError: if it fails.
        """
        words = f"sudo -n -u {user} -- {command}"
        return api.ssh(self.site.inventory, self.host, words, timeout_seconds=timeout_seconds).stdout


def apps(site: Site, declaration: Hosts, name: str, server_name: str, ca_path: Path) -> list[App]:
    """Return an app on every host."""
    public = sites.INNER_PORTS[declaration.debian][1]
    return [
        App(site, host, name, Client(server_name, *declaration.published_of(number), public, ca_path))
        for number, host in enumerate(declaration.names)
    ]


@contextmanager
def running(declaration: Hosts, *, keep: bool = False) -> Iterator[Site]:
    """Provision the hosts, or start them from the image of such a host; remove them at the end.

    :param keep: leave them up.
    """
    with sites.owned(declaration):
        sites.remove(declaration)
        try:
            yield _started(declaration)
        finally:
            if not keep:
                sites.remove(declaration)


def _started(declaration: Hosts) -> Site:
    if declaration.count == 1:
        return converged.start(declaration, _say)
    site = sites.start(declaration, _say)
    site.play("site", label=f"site.yml on {declaration.count} fresh hosts", timeout_seconds=1800).ok()
    return site


def disconnect(declaration: Hosts) -> None:
    """End the connections that Ansible keeps open: who deploys a few times a day begins without any."""
    keys.close_connections(declaration.ssh_port_of(number) for number in range(declaration.count))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
