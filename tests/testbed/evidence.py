"""What a person needs to understand a red test, saved while the host still has it."""

from __future__ import annotations

import re
from pathlib import Path

from target_host.shell import PROJECT_DIR, TargetHostError, as_root, run

from testbed.sites import Site

EVIDENCE_DIR = PROJECT_DIR / "evidence"
LAST_PLAYS = 3
# Nothing here prints a secret: they are in /etc/<app>/credentials and in keys, which are never read.
COMMANDS = {
    "journal.txt": "journalctl --boot --no-pager --output=short-iso-precise",
    "units.txt": "systemctl --failed --no-pager; systemctl list-units --all --no-pager '*@2*'",
    "nginx.txt": "nginx -T",
    "nginx-logs.txt": "tail -n 200 /var/log/nginx/*.log",
    "ledger.jsonl": "tail -n 200 /srv/*/ledger.jsonl",
    "status.json": "for settings in /etc/releasectl/*.json; do "
    'releasectl --app "$(basename "$settings" .json)" --json status; done',
    "sockets.txt": "ss --listening --tcp --udp --unix --numeric --processes; ls -l /run/*/*.sock /srv/*/",
    "processes.txt": "ps -eo user,pid,ppid,lstart,args --forest",
}


def folder_of(test: str) -> Path:
    """Return where the evidence of a test goes."""
    return EVIDENCE_DIR / re.sub(r"[^\w.-]+", "-", test).strip("-")


def collect(folder: Path, site: Site) -> None:
    """Save what a host can tell, and the last plays run against it.

    Asked from outside: a host that lets nobody in is when it is needed most.
    """
    target = folder / site.name
    target.mkdir(parents=True, exist_ok=True)
    for name, command in COMMANDS.items():
        words = as_root(["podman", "exec", site.container, "timeout", "20", "sh", "-c", command])
        try:
            said = run(words, check=False, timeout_seconds=30)
            text = said.stdout + said.stderr
        except TargetHostError as error:
            text = f"could not be read: {error}\n"
        (target / name).write_text(text)
    for play in site.last_plays[-LAST_PLAYS:]:
        (target / play.log_path.name).write_text(play.output)
