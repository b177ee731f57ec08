"""The command line that the Makefile calls."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from target_host import api, container, controller, image, keys, summary
from target_host.inventory import Inventory, read
from target_host.shell import PROJECT_DIR, TargetHostError, relative, say


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0, or 1 after a message on what to do."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return options.command(options) or 0
    except TargetHostError as error:
        print(f"target_host: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("target_host: stopped; the same command takes up where this one ended", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="target_host", description="Local target hosts for an inventory.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: object, about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about)
        sub.set_defaults(command=command)
        sub.add_argument("--inventory", type=Path, default=PROJECT_DIR / "inventory/local")
        sub.add_argument("--host", action="append", default=[], metavar="NAME", help="this host alone")
        return sub

    add("up", _up, "start the hosts, making what is missing")
    add("down", _down, "remove the hosts, their data, keys and secrets")
    add("status", _status, "list the hosts and their containers")
    add("ssh", _ssh, "log in on a host").add_argument("remote", nargs="*")
    add("logs", _logs, "follow the journal of the app, or of the host where no app is named")
    add("summary", _summary, "print addresses, health and what to do next")
    add("keys", _keys, "make the SSH keys and known_hosts, without containers")
    add("commit", _commit, "freeze a host as an image").add_argument("tag")
    add("prepare", _prepare, "install from apt what starting hosts needs")
    add("prepare-app", _prepare_app, "install from apt what the app's tests start")
    venv = add("venv", _venv, "make a virtual environment from hashed locks")
    venv.add_argument("--path", type=Path, default=Path(".venv"))
    venv.add_argument("--source", action="append", default=[], type=Path, help="a folder to import from")
    venv.add_argument("locks", nargs="+", type=Path)
    add("clean", _clean, "remove the caches: images, .cache and .venv")
    return parser


def _inventory(options: argparse.Namespace) -> Inventory:
    return read(options.inventory)


def _up(options: argparse.Namespace) -> None:
    controller.install(controller.HOST_NEEDS)
    api.up(options.inventory, only=options.host)


def _prepare(options: argparse.Namespace) -> None:
    controller.install(controller.HOST_NEEDS)


def _prepare_app(options: argparse.Namespace) -> None:
    controller.install(controller.APP_NEEDS)


def _down(options: argparse.Namespace) -> None:
    if shutil.which("podman"):
        api.down(options.inventory, only=options.host)
    say("kept: images in podman's storage, wheels and logs in .cache, .venv; `make clean` removes them")


def _status(options: argparse.Namespace) -> None:
    inventory = _inventory(options)
    existing = container.existing(inventory)
    for host in inventory.hosts:
        found = existing.get(host.name)
        state = "no container" if found is None else "running" if found.running else "stopped"
        ports = ", ".join(container.published(host))
        say(f"{host.name:16} {state:13} Debian {host.debian}  127.0.0.1 {ports}")


def _ssh(options: argparse.Namespace) -> None:
    _become(_login(_inventory(options), options.host) + options.remote)


def _logs(options: argparse.Namespace) -> None:
    inventory = _inventory(options)
    app = inventory.host(options.host[0] if options.host else None).app
    identifiers = (
        [f"--identifier={app}-{part}" for part in ("web", "migrate", "worker", "beat")] if app else []
    )
    command = ["sudo", "journalctl", "--follow", "--lines=100", "--output=cat", *identifiers]
    _become([*_login(inventory, options.host), *command])


def _login(inventory: Inventory, hosts: list[str]) -> list[str]:
    return api.ssh_command(inventory, hosts[0] if hosts else None)


def _become(command: list[str]) -> None:
    """Show the command a person would type, and be it."""
    say(shlex.join(command))
    os.chdir(PROJECT_DIR)
    os.execvp(command[0], command)


def _summary(options: argparse.Namespace) -> None:
    say(summary.text(_inventory(options)))


def _keys(options: argparse.Namespace) -> None:
    inventory = _inventory(options)
    keys.ensure(inventory)
    hosts = ", ".join(host.name for host in inventory.hosts)
    say(f"keys and known_hosts of {hosts}: {relative(inventory.state_dir)}/ssh")


def _commit(options: argparse.Namespace) -> None:
    host = _inventory(options).host(options.host[0] if options.host else None)
    say(api.commit(options.inventory, host.name, options.tag))


def _venv(options: argparse.Namespace) -> None:
    locks = [path.resolve() for path in options.locks]
    controller.venv(options.path.resolve(), locks, options.source)


def _clean(options: argparse.Namespace) -> None:
    states = PROJECT_DIR / ".local"
    left = sorted(path.name for path in states.iterdir()) if states.exists() else []
    if left:
        raise TargetHostError(f"hosts or their secrets are left, of: {', '.join(left)}; first run: make down")
    if shutil.which("podman"):
        image.remove_all()
    for folder in (".cache", ".venv"):
        shutil.rmtree(PROJECT_DIR / folder, ignore_errors=True)
        say(f"removed {folder}")
