"""The podman container that is a target host: what it is made with, and whether that is still wanted."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from dataclasses import dataclass

from target_host import apt, image, keys, runtime
from target_host.inventory import Host, Inventory
from target_host.shell import PROJECT_DIR, Log, TargetHostError, as_root, relative, run


@dataclass(frozen=True)
class Container:
    """A target host's container as podman has it."""

    name: str
    host: str
    running: bool
    labels: dict[str, str]

    @property
    def ssh_port(self) -> int:
        """The loopback port its sshd is published on."""
        return int(self.labels["target_host.ports"].partition(":")[0])


def container_name(inventory: Inventory, host: Host) -> str:
    """Return the name under which podman knows `host`."""
    return f"target-{inventory.name}-{host.name}"


def network_name(inventory_name: str) -> str:
    """Return the name of the network that the hosts of one inventory share."""
    return f"target-{inventory_name}"


def network_options(inventory: Inventory) -> list[str]:
    """Return podman's options for the network of the inventory's hosts: around the addresses they ask for.

    Raises TargetHostError when these are of several networks, which hosts of one inventory do not have.
    """
    asked = {
        ipaddress.ip_network(f"{host.address}/24", strict=False) for host in inventory.hosts if host.address
    }
    if len(asked) > 1:
        networks = ", ".join(sorted(map(str, asked)))
        raise TargetHostError(
            f"{inventory.path}: base_address of its hosts is in {networks}; choose one of them"
        )
    return [f"--subnet={network}" for network in asked]


def existing(inventory: Inventory) -> dict[str, Container]:
    """Return the inventory's containers by host.

    Raises TargetHostError when they belong to an inventory of the same name elsewhere.
    """
    label = f"label=target_host.inventory={inventory.name}"
    listing = run(as_root(["podman", "ps", "--all", "--format=json", f"--filter={label}"]))
    found = {}
    for entry in json.loads(listing.stdout):
        container = Container(
            name=entry["Names"][0],
            host=entry["Labels"]["target_host.host"],
            running=entry["State"] == "running",
            labels=entry["Labels"],
        )
        theirs = container.labels.get("target_host.state_dir")
        if theirs != str(inventory.state_dir.resolve()):
            raise TargetHostError(
                f"{container.name} belongs to an inventory of the same name, whose state is in {theirs}; "
                f"remove it there, or give the folder {inventory.path} another name"
            )
        found[container.host] = container
    return found


def published(host: Host) -> tuple[str, ...]:
    """Return the "outer:inner" port pairs of `host`, its sshd's first."""
    return (f"{host.ssh_port}:22", *host.ports)


def wanted_image(host: Host) -> str:
    """Return the image that `host` is to be made from."""
    return host.image or image.base_image(host.debian)


def differences(inventory: Inventory, host: Host, container: Container) -> list[str]:
    """Return what a person should know where `container` is not what the inventory now declares.

    A newer image is only worth a word: the host works, and its data is nobody's to throw away. Other ports or
    another Debian raise TargetHostError, for what follows would reach the wrong thing or nothing.
    """
    wanted = {"debian": str(host.debian), "ports": ",".join(published(host))}
    has = {key: container.labels.get(f"target_host.{key}") for key in wanted}
    which = (
        ""
        if inventory.path.resolve() == PROJECT_DIR / "inventory/local"
        else f" INVENTORY={relative(inventory.path)}"
    )
    again = f"To make it anew, without its data: make down{which} HOST={host.name} && make up{which}"
    unlike = [
        f"its {key}: {has[key]}; the inventory's: {value}"
        for key, value in wanted.items()
        if has[key] != value
    ]
    if unlike:
        raise TargetHostError("\n".join([f"{host.name} is not what the inventory declares:", *unlike, again]))
    if container.labels.get("target_host.image") != wanted_image(host):
        return [f"{host.name} was made from an older image, and is kept. {again}"]
    return []


def create_options(inventory: Inventory, host: Host, limits: list[str]) -> list[str]:
    """Return podman's options for the container of `host`, all but its image."""
    name = container_name(inventory, host)
    labels = {
        "inventory": inventory.name,
        "state_dir": str(inventory.state_dir.resolve()),
        "host": host.name,
        "debian": str(host.debian),
        "ports": ",".join(published(host)),
        "image": wanted_image(host),
    }
    return [
        f"--name={name}",
        f"--hostname={host.name}",
        f"--network={network_name(inventory.name)}",
        *([f"--ip={host.address}"] if host.address else []),
        # Hosts of one inventory find each other by name.
        f"--network-alias={host.name}",
        *(f"--publish=127.0.0.1:{pair}" for pair in published(host)),
        *(f"--label=target_host.{key}={value}" for key, value in labels.items()),
        # Otherwise podman mounts a tmpfs there, and a restart would lose the journal.
        f"--volume={name}-journal:/var/log/journal",
        *runtime.BOOT_SYSTEMD,
        *limits,
    ]


def create(inventory: Inventory, host: Host, log: Log) -> None:
    """Make the container of `host`, put its keys in, start it.

    Raises TargetHostError when a port is taken, the image is missing, or it does not start.
    """
    for pair in published(host):
        _refuse_taken(host, int(pair.partition(":")[0]))
    if host.image is None:
        image.ensure(host.debian, log)
    elif not image.exists(host.image):
        raise TargetHostError(f"{host.name}: podman has no image {host.image} (target_host_image)")
    network = network_name(inventory.name)
    if run(as_root(["podman", "network", "exists", network]), check=False).returncode != 0:
        run(as_root(["podman", "network", "create", *network_options(inventory), network]))
    podman = ["podman", *runtime.podman_options()]
    options = create_options(inventory, host, runtime.limit_options(runtime.read_facts()))
    run(as_root([*podman, "create", *options, wanted_image(host)]), timeout_seconds=120)
    try:
        put_in(inventory, host)
        start(inventory, host)
    except TargetHostError:
        # Never started, it holds nothing; left there, the next `up` would take it for a stopped host.
        remove([container_name(inventory, host)])
        raise


def put_in(inventory: Inventory, host: Host) -> None:
    """Give the container the keys and apt options of `host`, in place of any its image brought along.

    The machine-id stays that of the image: what systemd-creds encrypted is good for it alone.
    """
    extra = {"etc/apt/apt.conf.d/90target-host": apt.configuration(apt.controller_settings(os.environ))}
    archive = keys.archive(inventory, host, extra)
    name = container_name(inventory, host)
    # Despite its name, --archive=false is what keeps the archive's owners.
    run(as_root(["podman", "cp", "--archive=false", "-", f"{name}:/"]), stdin=archive)


def start(inventory: Inventory, host: Host) -> None:
    """Start the container of `host`, new or stopped."""
    try:
        run(as_root(["podman", "start", container_name(inventory, host)]))
    except TargetHostError as error:
        hint = "another container runtime may do, such as TARGET_HOST_RUNTIME=runc"
        raise TargetHostError(f"{host.name} does not start; {hint}\n{error}") from error


def remove(names: list[str]) -> None:
    """Remove containers and their journals, running or not."""
    run(as_root(["podman", "rm", "--force", "--time=0", *names]), timeout_seconds=120)
    run(as_root(["podman", "volume", "rm", "--force", *(f"{name}-journal" for name in names)]))


def journal(name: str) -> str:
    """Return the last lines of a container's journal, its failed units, and its state."""
    podman = as_root(["podman", "exec", name])
    failed = run([*podman, "systemctl", "--failed", "--plain", "--no-legend"], check=False)
    lines = run([*podman, "journalctl", "--no-pager", "--lines=60"], check=False)
    state = run(as_root(["podman", "inspect", "--format={{.State.Status}}", name]), check=False)
    said = lines.stdout or lines.stderr
    return f"{said}failed units: {failed.stdout.strip() or 'none'}\n{name}: {state.stdout.strip()}"


def _refuse_taken(host: Host, port: int) -> None:
    with socket.socket() as probe:
        # A port where only old connections linger is free for a listener.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            variable = "ansible_port" if port == host.ssh_port else "target_host_ports"
            raise TargetHostError(
                f"port {port} on 127.0.0.1 is not free ({error.strerror}); {host.name} wants it: {variable}"
            ) from error
