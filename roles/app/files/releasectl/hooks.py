"""Run what an app's team wants run at certain points of a release's way.

They run one after the other, as the app's account, with its credentials and nothing else of the host's. What
they print goes to the journal (`<app>-hook`), never to a terminal or to Ansible: a program that is careless
with a secret must show it to nobody who may not read the journal anyway.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from releasectl.errors import Failed, Refused
from releasectl.host import Host
from releasectl.output import Result
from releasectl.units import BEFORE_SWITCH, ENDS

LONGEST_VALUE = 2000


def before_switch(host: Host, release_id: str, old: str | None) -> None:
    """Run the programs that have a say before traffic moves.

    :raises Failed: when one fails, or takes too long.
    """
    _run_all(host, BEFORE_SWITCH, {"RELEASE": release_id, "PREVIOUS": old or ""})


def command(host: Host, point: str, release_id: str, previous: str, cause: str) -> Result:
    """Run the programs of a point where a deploy ends, once for all its hosts.

    :raises Refused: when there is no such point.
    """
    if point not in ENDS:
        raise Refused(f"{point!r} is none of {', '.join(ENDS)}")
    remarks = at_end(host, point, release_id, previous, cause)
    words = "\n".join([f"hooks of {point} are done", *(f"  note: {remark}" for remark in remarks)])
    return Result("hooks", False, words, {"release": release_id, "remarks": remarks})


def at_end(host: Host, point: str, release_id: str, previous: str, cause: str = "") -> list[str]:
    """Run the programs of a point where it is over; return remarks worth telling."""
    try:
        _run_all(host, point, {"RELEASE": release_id, "PREVIOUS": previous, "CAUSE": cause})
    except Failed as error:
        return [f"{error.cause}: {error.next_command}"]
    return []


def _run_all(host: Host, point: str, told: dict[str, str]) -> None:
    programs = [Path(path) for path in host.settings.hooks.get(point, [])]
    variables = {"POINT": point, "APP": host.settings.app, "BY": host.by, "HOST": os.uname().nodename, **told}
    for program in programs:
        host.out.progress(f"running the hook {program.name} ({point})")
        with host.phases.measured("hooks"):
            _run(host, program, variables)


def _run(host: Host, program: Path, variables: dict[str, str]) -> None:
    limit = host.settings.hook_timeout_seconds
    try:
        done = subprocess.run(
            _command_line(host, program, variables, limit),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            # systemd ends it before.
            timeout=limit + 10,
            check=False,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"the hook {program.name} could not be run: {type(error).__name__}") from error
    if done.returncode != 0:
        raise Failed(
            f"the hook {program.name} failed ({done.returncode})",
            next_command=f"sudo journalctl -t {host.settings.app}-hook -n 50",
        )


def _command_line(host: Host, program: Path, variables: dict[str, str], limit: float) -> list[str]:
    settings = host.settings
    frame = {
        "User": settings.user,
        "Group": settings.group,
        **settings.load_credentials,
        "EnvironmentFile": f"-/etc/{settings.app}/app.env",
        "SyslogIdentifier": f"{settings.app}-hook",
        "RuntimeMaxSec": f"{limit:g}",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
    }
    return [
        *("systemd-run", "--quiet", "--collect", "--wait"),
        *(f"--property={name}={value}" for name, value in frame.items()),
        *(f"--setenv=RELEASECTL_{name}={_one_line(value)}" for name, value in variables.items()),
        str(program),
    ]


def _one_line(value: str) -> str:
    return " ".join(value.split())[:LONGEST_VALUE]
