"""Start, reach, freeze and remove the target hosts of an inventory: for the command line and for tests."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from target_host import container, image, keys
from target_host.inventory import Host, Inventory, read, state_dir_of, write_inventory
from target_host.shell import Log, TargetHostError, as_root, relative, run, say, step

__all__ = ["TargetHostError", "commit", "down", "read", "ssh", "ssh_command", "up", "write_inventory"]

BOOT_TIMEOUT_SECONDS = 90
LOGIN_TIMEOUT_SECONDS = 20


def up(path: Path, *, state_dir: Path | None = None, only: Iterable[str] = (), log: Log = say) -> Inventory:
    """Bring the target hosts of the inventory at `path` to life and return what it declares.

    Missing images are built, missing keys made, missing containers created, stopped ones started. Returns
    when every host lets `admin` in over SSH and its systemd has finished booting. `only` names the hosts to
    take, all of them otherwise.

    Raises TargetHostError when a host does not boot (its journal is in the message), a port is taken, or a
    container was made for other ports or another Debian than the inventory now names.
    """
    inventory = read(path, state_dir)
    if not inventory.hosts:
        raise TargetHostError(
            f"no host of {path} has the variable target_host_ports: there is nothing to start"
        )
    hosts = [inventory.host(name) for name in only] or list(inventory.hosts)
    existing = container.existing(inventory)
    new_keys = keys.ensure(inventory)
    started = []
    for host in hosts:
        if host.name not in existing:
            container.create(inventory, host, log)
            started.append(host)
        elif _take_up(inventory, host, existing[host.name], host.name in new_keys, log):
            started.append(host)
    keys.close_connections(host.ssh_port for host in started)
    for host in started:
        with step(f"Booting {host.name} (Debian {host.debian}, sshd on port {host.ssh_port})", log):
            _wait_for_boot(inventory, host)
            _wait_for_login(inventory, host)
    for host in hosts:
        if host not in started:
            _wait_for_login(inventory, host)
            log(f"{host.name}: up already")
    return inventory


def down(path: Path, *, state_dir: Path | None = None, only: Iterable[str] = (), log: Log = say) -> None:
    """Remove the target hosts of the inventory at `path` with all their data.

    Without `only` the network, the keys and everything else in the state folder go as well. Images stay.
    The inventory itself need not exist any more.
    """
    inventory = Inventory(path, (), state_dir or state_dir_of(path))
    only = list(only)
    doomed = [item for item in container.existing(inventory).values() if not only or item.host in only]
    if doomed:
        keys.close_connections(item.ssh_port for item in doomed)
        container.remove([item.name for item in doomed])
        log(f"removed {', '.join(item.name for item in doomed)}, with all data")
    if only:
        return
    network = container.network_name(inventory.name)
    if run(as_root(["podman", "network", "exists", network]), check=False).returncode == 0:
        run(as_root(["podman", "network", "rm", network]))
        log(f"removed the network {network}")
    if inventory.state_dir.exists():
        if not (inventory.state_dir / "ssh").exists():
            # An inventory of real hosts keeps its certificate authority there.
            raise TargetHostError(f"{relative(inventory.state_dir)} holds no keys of local hosts: left alone")
        shutil.rmtree(inventory.state_dir)
        log(f"removed {relative(inventory.state_dir)}: keys, known_hosts, certificates, secrets")
    with contextlib.suppress(OSError):
        inventory.state_dir.parent.rmdir()


def commit(path: Path, host: str, tag: str, *, state_dir: Path | None = None) -> str:
    """Freeze `host` as the image `localhost/target-host-converged:<tag>` and return that name.

    The host is shut down first, so that its databases are whole on disk, and stays down; `up` starts it
    again. In an inventory, `target_host_image` starts other hosts from the image: they get keys of their own.
    """
    inventory = read(path, state_dir)
    declared = inventory.host(host)
    name = container.container_name(inventory, declared)
    keys.close_connections([declared.ssh_port])
    run(as_root(["podman", "stop", "--time=60", name]), timeout_seconds=90)
    target = f"{image.REPOSITORY}-converged:{tag}"
    run(as_root(["podman", "commit", "--quiet", name, target]), timeout_seconds=300)
    return target


def ssh_command(inventory: Inventory, host: str | None = None) -> list[str]:
    """Return the command that logs in on `host`, or on the first one, to be run in the checkout."""
    return ["ssh", "-F", relative(inventory.state_dir / "ssh/config"), inventory.host(host).name]


def ssh(
    inventory: Inventory, host: str, command: str, *, check: bool = True, timeout_seconds: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a shell `command` as `admin` on `host` and return its result, output as text.

    Raises TargetHostError when it outlives `timeout_seconds` or, with `check`, when it fails.
    """
    config = str(inventory.state_dir.resolve() / "ssh/config")
    options = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5"]
    return run(
        ["ssh", "-F", config, *options, inventory.host(host).name, command],
        check=check,
        timeout_seconds=timeout_seconds,
    )


def _take_up(inventory: Inventory, host: Host, found: container.Container, new_key: bool, log: Log) -> bool:
    """Make an existing container usable; say whether it had to be started."""
    for warning in container.differences(inventory, host, found):
        log(warning)
    if new_key:
        container.put_in(inventory, host)
    if not found.running:
        container.start(inventory, host)
        return True
    if new_key:
        run(as_root(["podman", "exec", found.name, "systemctl", "restart", "ssh"]))
        keys.close_connections([host.ssh_port])
    return False


def _wait_for_boot(inventory: Inventory, host: Host) -> None:
    """Return when systemd has finished booting.

    Asked from outside: while a host boots it turns every login away, and OpenSSH 9.8 and later answer
    repeated ones by not answering for a while.

    Raises TargetHostError with the journal, when a unit failed or the time is up.
    """
    name = container.container_name(inventory, host)
    command = as_root(["podman", "exec", name, "systemctl", "is-system-running", "--wait"])
    deadline = time.monotonic() + BOOT_TIMEOUT_SECONDS
    state = ""
    while state != "running":
        # Until its bus listens, systemctl cannot wait and says so at once.
        state = run(command, check=False, timeout_seconds=BOOT_TIMEOUT_SECONDS).stdout.strip()
        if state == "degraded" or time.monotonic() > deadline:
            raise TargetHostError(f"{host.name} did not boot as it should:\n{container.journal(name)}")
        time.sleep(0.1)


def _wait_for_login(inventory: Inventory, host: Host) -> None:
    """Return when `admin` may log in.

    Raises TargetHostError with ssh's last words and the journal.
    """
    deadline = time.monotonic() + LOGIN_TIMEOUT_SECONDS
    while (answer := ssh(inventory, host.name, "true", check=False)).returncode != 0:
        if time.monotonic() > deadline:
            journal = container.journal(container.container_name(inventory, host))
            raise TargetHostError(f"{host.name}: {answer.stderr.strip()}\n{journal}")
        time.sleep(1)
