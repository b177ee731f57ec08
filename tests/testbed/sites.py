"""The hosts of tests/target and tests/scenario: declared, started, reached, removed."""

from __future__ import annotations

import fcntl
import os
import shlex
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import testinfra
import yaml
from target_host import api, container, keys
from target_host.inventory import Inventory
from target_host.shell import PROJECT_DIR, as_root, run

from testbed import plays
from testbed.https import Client
from testbed.plays import Play
from testbed.webhooks import Sender

INVENTORY_DIR = PROJECT_DIR / ".cache/inventories"
APP_VARS_PATH = PROJECT_DIR / "inventory/local/group_vars/all/app.yml"
BOOT_TIMEOUT_SECONDS = 90
PORTS_TIMEOUT_SECONDS = 10
# For two checkouts tested at once on one machine: each slot has names and ports of its own.
SLOT = int(os.environ.get("TEST_HOSTS_SLOT", "0"))
# What each Debian release's hosts listen on. Inside, all hosts of a release have the same, since they may
# start from the same image.
INNER_PORTS = {12: (28080, 28443), 13: (18080, 18443)}
# First sshd port, and how far from the inner ports a kind of host is published; None: not at all.
KINDS: dict[str, tuple[str, int, int | None]] = {
    # The host that stands for all: looked at by tests/target, deployed to.
    "site": ("t", 2300, 0),
    # A second one from the same image, for what would disturb the first.
    "spare": ("u", 2320, -1000),
    # Nothing on it but Debian.
    "plain": ("p", 2340, None),
    # nginx, and an ACME server to certify it.
    "certified": ("c", 2310, None),
    # RabbitMQ alone.
    "broker": ("b", 2330, None),
    # A second one from the same image, which watches itself.
    "watched": ("w", 2303, 2000),
}

RUNNING: dict[str, Site] = {}
"""Sites this process has up, by name: where a red test's evidence comes from."""


@dataclass(frozen=True)
class Declaration:
    """A host before it exists."""

    kind: str
    debian: int

    @property
    def name(self) -> str:
        """Its name: a letter for what it is there for, and its Debian release."""
        return f"{KINDS[self.kind][0]}{self.debian}" + (f"-{SLOT}" if SLOT else "")

    @property
    def path(self) -> Path:
        """The folder of its inventory."""
        return INVENTORY_DIR / self.name

    @property
    def state_dir(self) -> Path:
        """Where its keys, certificates and secrets are made."""
        return PROJECT_DIR / ".local" / self.name

    @property
    def published(self) -> tuple[int, int] | None:
        """Its plain and its TLS port on the loopback."""
        shift = KINDS[self.kind][2]
        http, https = INNER_PORTS[self.debian]
        return None if shift is None else (http + shift + SLOT, https + shift + SLOT)

    @property
    def ssh_port(self) -> int:
        """Its sshd's port on the loopback."""
        return KINDS[self.kind][1] + self.debian + 60 * SLOT

    @property
    def outer_ports(self) -> tuple[int, ...]:
        """All its ports on the loopback."""
        return (self.ssh_port, *(self.published or ()))

    @property
    def group_vars(self) -> dict[str, Any]:
        """What an inventory of this project says: the sample app's own declaration, on other ports."""
        http, https = INNER_PORTS[self.debian]
        return {
            **yaml.safe_load(APP_VARS_PATH.read_text()),
            "nginx_http_port": http,
            "nginx_https_port": https,
            # A release that never gets ready is waited for this long: long for a good one, short for a test.
            "app_start_timeout_seconds": 40,
            **({"app_broker": "rabbitmq"} if self.kind == "broker" else {}),
        }

    def host_vars(self, image: str | None = None) -> dict[str, Any]:
        """Return what makes the container."""
        inner = INNER_PORTS[self.debian]
        ports = [f"{outer}:{port}" for outer, port in zip(self.published or (), inner, strict=False)]
        return {
            "ansible_port": self.ssh_port,
            "target_host_ports": ports,
            "target_host_debian": self.debian,
            **({"target_host_image": image} if image else {}),
        }

    def write(self, image: str | None = None) -> Path:
        """Write the inventory."""
        return write_inventory(self.path, self.name, self.host_vars(image), self.group_vars)


@dataclass(frozen=True)
class Member(Declaration):
    """One host of an inventory of several before it exists."""

    number: int = 0

    # Of each kind of inventory: a letter, a network, and ports of their sshd's, so many for each release.
    letter: ClassVar[str]
    network: ClassVar[int]
    first_ssh_port: ClassVar[int]
    ssh_ports: ClassVar[int] = 2

    @property
    def inventory_name(self) -> str:
        """The name of the inventory, also in the names of its containers."""
        return f"{self.letter}{self.debian}" + (f"-{SLOT}" if SLOT else "")

    @property
    def path(self) -> Path:
        """The folder of the inventory."""
        return INVENTORY_DIR / self.inventory_name

    @property
    def state_dir(self) -> Path:
        """Where the keys, certificates and secrets of all are made."""
        return PROJECT_DIR / ".local" / self.inventory_name

    @property
    def address(self) -> str:
        """Its address for the others."""
        return f"10.{self.network}.{10 * SLOT + self.debian % 10}.{11 + self.number}"

    @property
    def published(self) -> tuple[int, int] | None:
        """It publishes no port but sshd's."""
        return None

    @property
    def ssh_port(self) -> int:
        """Its sshd's port on the loopback."""
        return self.first_ssh_port + 60 * SLOT + self.ssh_ports * (self.debian == 12) + self.number

    def host_vars(self, image: str | None = None) -> dict[str, Any]:
        """Return what makes the container, and its address."""
        return {**super().host_vars(image), "base_address": self.address}


def write_inventory(
    path: Path,
    host: str,
    host_vars: Mapping[str, Any],
    group_vars: Mapping[str, Any],
    state_dir: Path | None = None,
    groups: Iterable[str] = ("app_servers", "databases", "brokers"),
) -> Path:
    """Write an inventory of one host that is in `groups`: with all of them it has everything on it."""
    shutil.rmtree(path, ignore_errors=True)
    members = {group: [host] for group in groups}
    return api.write_inventory(
        path, {host: host_vars}, groups=members, group_vars=group_vars, state_dir=state_dir
    )


@dataclass
class Site:
    """A running host with its inventory."""

    declaration: Declaration
    inventory: Inventory
    say: Callable[[str], None]
    last_plays: list[Play] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def name(self) -> str:
        """The host's name in its inventory."""
        return self.declaration.name

    @property
    def debian(self) -> int:
        """Its Debian release."""
        return self.declaration.debian

    @property
    def vars(self) -> dict[str, Any]:
        """What its inventory declares."""
        return self.declaration.group_vars

    @property
    def state_dir(self) -> Path:
        """Where its certificate authority and its secrets are."""
        return self.declaration.state_dir

    @property
    def app(self) -> str:
        """The name of the app on it."""
        return self.vars["app_name"]

    @property
    def container(self) -> str:
        """The name podman knows it by."""
        return container.container_name(self.inventory, self.inventory.host(self.name))

    @property
    def ca_path(self) -> Path:
        """The authority that vouches for it."""
        return self.state_dir / "ca/ca.crt"

    @property
    def web(self) -> Client:
        """A client of the app."""
        return self.client(self.vars["app_server_names"][0], self.ca_path)

    @property
    def sender(self) -> Sender:
        """Somebody whose webhooks the sample app takes."""
        return Sender(self.web, self.state_dir / "secrets")

    def client(self, server_name: str, ca_path: Path) -> Client:
        """Return a client of any app of this host."""
        assert self.declaration.published, f"{self.name} publishes no ports"
        return Client(server_name, *self.declaration.published, INNER_PORTS[self.debian][1], ca_path)

    @property
    def _ssh_options(self) -> list[str]:
        # Ansible's own connection is used, and given to it: a new one costs as much as ten commands.
        control_path = keys.control_path(self.inventory.host(self.name).ssh_port)
        control_path.parent.mkdir(parents=True, exist_ok=True)
        options = [
            "BatchMode=yes",
            "ConnectTimeout=5",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=6",
            "ControlMaster=auto",
            "ControlPersist=600s",
            f"ControlPath={control_path}",
        ]
        return [word for option in options for word in ("-o", option)]

    @property
    def _ssh_config(self) -> str:
        return str(self.state_dir / "ssh/config")

    @cached_property
    def host(self) -> testinfra.host.Host:
        """The host as Testinfra sees it, as root."""
        extra = shlex.join(self._ssh_options)
        return testinfra.get_host(
            f"ssh://{self.name}", sudo=True, ssh_config=self._ssh_config, ssh_extra_args=extra
        )

    def sudo(
        self, command: str, *, user: str = "root", stdin: bytes | None = None, timeout_seconds: float = 60
    ) -> str:
        """Run a shell command as `user` and return what it printed.

        Raises TargetHostError when it fails or outlives `timeout_seconds`.
        """
        remote = shlex.join(["sudo", "-n", "-u", user, "sh", "-c", command])
        words = ["ssh", "-F", self._ssh_config, *self._ssh_options, self.name, remote]
        return run(words, stdin=stdin, timeout_seconds=timeout_seconds).stdout

    def play(self, playbook: str, *arguments: str, inventory: Path | None = None, **options: Any) -> Play:
        """Run a playbook against this host and return how it went."""
        found = plays.run(
            inventory or self.inventory.path, playbook, arguments, name=self.name, say=self.say, **options
        )
        with self._lock:
            self.last_plays.append(found)
        return found

    def pids(self) -> dict[str, str]:
        """Return what must stay the same while nothing is restarted: process ids, and since when they run."""
        shown = self.sudo(
            "systemctl show --property=Id,MainPID,ExecMainStartTimestampMonotonic "
            f"nginx.service redis-server.service 'postgresql@*-main.service' '{self.app}-web@*.service'"
        )
        blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.split("\n\n")]
        return {
            block["Id"]: f"pid {block['MainPID']} since {block['ExecMainStartTimestampMonotonic']}"
            for block in blocks
            if block.get("Id")
        }

    def nginx_workers(self) -> list[str]:
        """Return nginx's worker processes: a reload replaces them."""
        found = self.sudo("pgrep --parent $(cat /run/nginx.pid) --full '^nginx: worker process'")
        return sorted(found.split())

    def unplug(self) -> None:
        """Take the host off its network without a word to anybody; `restart` brings it back."""
        run(as_root(["podman", "exec", self.container, "ip", "link", "set", "eth0", "down"]))

    def restart(self) -> None:
        """Restart the whole host and wait until it has booted."""
        keys.close_connections([self.inventory.host(self.name).ssh_port])
        run(as_root(["podman", "restart", "--time=60", self.container]), timeout_seconds=120)
        command = as_root(["podman", "exec", self.container, "systemctl", "is-system-running", "--wait"])
        state = ""

        def booted() -> bool:
            nonlocal state
            state = run(command, check=False, timeout_seconds=BOOT_TIMEOUT_SECONDS).stdout.strip()
            return state in ("running", "degraded")

        assert until(BOOT_TIMEOUT_SECONDS, booted), f"{self.name} did not boot: {state or 'no answer'}"
        # Waits for the login, which opens a moment after the boot.
        api.up(self.inventory.path, log=lambda line: None)


def start(declaration: Declaration, say: Callable[[str], None], image: str | None = None) -> Site:
    """Start a host, from `image` or from plain Debian."""
    path = declaration.write(image)
    # Those of a host just removed are let go of a moment later; whoever else has one is named by `up`.
    until(PORTS_TIMEOUT_SECONDS, lambda: all(map(is_free, declaration.outer_ports)))
    inventory = api.up(path, log=lambda line: None)
    site = Site(declaration, inventory, say)
    RUNNING[site.name] = site
    return site


@contextmanager
def owned(declaration: Declaration) -> Iterator[None]:
    """Keep other processes off a host for the length of a block.

    Raises AssertionError when one has it: they would remove it under each other's tests.
    """
    path = PROJECT_DIR / f".cache/{declaration.name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AssertionError(
                f"another process has the host {declaration.name}: run one session at a time, "
                "and several processes only with --dist loadgroup"
            ) from None
        yield


def remove(declaration: Declaration) -> None:
    """Remove a host with its data, keys and secrets, also one that was never started."""
    RUNNING.pop(declaration.name, None)
    api.down(declaration.path, log=lambda line: None)


def is_free(port: int) -> bool:
    """Say whether a container could publish a loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def until(seconds: float, condition: Callable[[], object], interval_seconds: float = 0.2) -> bool:
    """Return whether a condition came to hold within some seconds."""
    deadline = time.monotonic() + seconds
    while True:
        if condition():
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(interval_seconds)
