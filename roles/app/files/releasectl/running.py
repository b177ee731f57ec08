"""Run a command of the app's as its units run, for a person: add a user, open a shell."""

from __future__ import annotations

import os
import shlex
import sys
from typing import NoReturn

from releasectl.errors import Failed, Refused
from releasectl.host import Host


def run(host: Host, words: list[str]) -> NoReturn:
    """Become the command; its exit status is releasectl's.

    :param words: the command, such as ``flask --app inbox users list``. It is given the settings, the secrets
        and the account of the active release's units; what it prints goes to whoever asked.
    :raises Refused: when it is empty, nothing is active, or somebody else than root asks.
    """
    if not words:
        raise Refused("no command is given", next_command=host.command("run flask --help"))
    if os.geteuid() != 0:
        raise Refused("this needs root", next_command=host.command(f"run {shlex.join(words)}"))
    active = host.layout.active()
    if active is None:
        raise Refused("no release is active", next_command=host.command("list"))
    command = command_line(host, active, words, on_terminal=sys.stdin.isatty() and sys.stdout.isatty())
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        raise Failed(f"{command[0]} cannot be run: {error}") from error


def command_line(host: Host, release_id: str, words: list[str], *, on_terminal: bool) -> list[str]:
    """Return what runs a command in the frame of a release.

    :param on_terminal: whether a person sits at both ends, who may be asked something.
    """
    settings, place = host.settings, host.layout.release(release_id)
    frame = {
        "User": settings.user,
        "Group": settings.group,
        "WorkingDirectory": f"{place}/src",
        **settings.load_credentials,
        "SyslogIdentifier": f"{settings.app}-run",
        "UMask": "0077",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ReadWritePaths": f"{settings.root}/shared",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
    }
    environment = {
        "FLASK_OPS_SERVICE": f"{settings.app}-run",
        "PATH": f"{place}/venv/bin:/usr/bin:/bin",
        "PYTHONPATH": f"{place}/src",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": f"{settings.root}/shared",
    }
    properties = [
        *(f"{name}={value}" for name, value in frame.items()),
        *(f"EnvironmentFile={path}" for path in (f"/etc/{settings.app}/app.env", f"{place}/release.env")),
        *(f"Environment={name}={value}" for name, value in environment.items()),
    ]
    return [
        "systemd-run",
        "--quiet",
        "--collect",
        "--wait",
        "--pty" if on_terminal else "--pipe",
        *(f"--property={each}" for each in properties),
        # The secrets an app looks for in its environment are set inside the process, as for every unit.
        *(f"{place}/venv/bin/python", "-m", "flask_ops.run"),
        *words,
    ]
