"""Apps beside the first one of a host, each from an inventory of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from observing import status_of
from testbed import durations, sites
from testbed.https import Client
from testbed.plays import Play
from testbed.sites import Site

INTERNAL_PORT = 9180


@dataclass(frozen=True)
class App:
    """One further app of a host."""

    site: Site
    name: str
    inventory: Path
    web: Client

    @property
    def active(self) -> str:
        """The release that serves."""
        return status_of(self.site, self.name)["active"]

    @property
    def unit(self) -> str:
        """The web unit of the release that serves."""
        return f"{self.name}-web@{self.active}.service"

    def play(self, playbook: str, *arguments: str, **options: Any) -> Play:
        """Run a playbook with this app's inventory."""
        options.setdefault("label", f"{playbook} of {self.name}")
        return self.site.play(playbook, *arguments, inventory=self.inventory, **options)

    def provision(self, *arguments: str) -> Play:
        """Bring the app to the host.

        Raises AssertionError with Ansible's last words.
        """
        play = self.play("site", *arguments, label=f"site.yml of {self.name}").ok()
        durations.record(play.title, play.seconds)
        return play

    def internal(self, page: str) -> str:
        """Return a page as the host's own listener shows it, whatever its status."""
        url = f"http://127.0.0.1:{INTERNAL_PORT}/{page}"
        return self.site.sudo(f"curl -sS --max-time 10 -H 'Host: {self.web.name}' {url}")

    def processes(self) -> list[str]:
        """Return the process ids of the web unit's arbiter and its workers."""
        shown = self.site.sudo(
            f"pid=$(systemctl show --property=MainPID --value {self.unit}); ps -o pid= -p $pid --ppid $pid"
        )
        return shown.split()

    def journal(self, after: str = "", kind: str = "web") -> list[dict[str, Any]]:
        """Return the journal's entries of the app's processes, oldest first, with all their fields."""
        cursor = f"--after-cursor='{after}'" if after else ""
        command = (
            f"journalctl --sync; journalctl --no-pager --output=json --all {cursor} -t {self.name}-{kind}"
        )
        return [json.loads(line) for line in self.site.sudo(command).splitlines()]

    def access_log(self) -> list[str]:
        """Return nginx's lines about the app, oldest first."""
        return self.site.sudo(f"cat /var/log/nginx/{self.name}.access.log").splitlines()


def declare(
    site: Site,
    declaration: str,
    more: Mapping[str, Any] | None = None,
    groups: Iterable[str] = ("app_servers",),
) -> App:
    """Write the inventory of a further app and return the app, not yet there.

    :param declaration: what a person would write about it, as YAML.
    :param more: what a test cannot write down: paths, generated secrets.
    :param groups: what the host is for this app.
    """
    variables = {**yaml.safe_load(declaration), **(more or {})}
    name = variables["app_name"]
    shared = {key: value for key, value in site.vars.items() if key.startswith("nginx_")}
    ca_dir = site.state_dir / f"{name}-ca"
    variables |= {**shared, "tls_local_ca_dir": str(ca_dir), "app_start_timeout_seconds": 40}
    inventory = sites.write_inventory(
        sites.INVENTORY_DIR / f"{site.name}-{name}",
        site.name,
        site.declaration.host_vars(),
        variables,
        state_dir=site.state_dir,
        groups=groups,
    )
    client = site.client(variables["app_server_names"][0], ca_dir / "ca.crt")
    return App(site, name, inventory, client)
