"""Run playbooks as a person would, each with all it says in a file of its own."""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from target_host.shell import PROJECT_DIR

LOG_DIR = PROJECT_DIR / "evidence/plays"
RECAP = re.compile(r"^(?P<host>\S+)\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)", re.MULTILINE)
ENVIRONMENT = {
    "ANSIBLE_CONFIG": str(PROJECT_DIR / "ansible.cfg"),
    "ANSIBLE_NOCOLOR": "1",
    # Where a slow run spent its time.
    "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks",
    "PYTHONUNBUFFERED": "1",
}
_number = itertools.count(1)


@dataclass(frozen=True)
class Play:
    """One finished run of ansible-playbook."""

    title: str
    returncode: int
    output: str
    seconds: float
    log_path: Path

    @property
    def changed(self) -> int:
        """How many tasks changed something, over all hosts."""
        return sum(int(found["changed"]) for found in RECAP.finditer(self.output))

    @property
    def changed_tasks(self) -> list[str]:
        """The tasks that changed something, for the message of a red test."""
        found, task = [], ""
        for line in self.output.splitlines():
            if line.startswith(("TASK [", "RUNNING HANDLER [")):
                task = line.partition("[")[2].rpartition("]")[0]
            elif line.startswith("changed:") and task not in found:
                found.append(task)
        return found

    @property
    def words(self) -> str:
        """The output on one line: YAML wraps long messages where it likes."""
        return " ".join(self.output.split())

    def ok(self) -> Play:
        """Return this run if it went well.

        Raises AssertionError with its last words.
        """
        assert self.returncode == 0, f"{self.title}: exit status {self.returncode}\n{self.tail()}"
        return self

    def tail(self, lines: int = 40) -> str:
        """Return the end of what Ansible said, without the timings that follow, and where all of it is."""
        said = self.output.partition("\nPLAYBOOK RECAP")[0].partition("\nTASKS RECAP")[0].splitlines()
        return "\n".join([*said[-lines:], f"all of it: {self.log_path}"])


def run(
    inventory: Path,
    playbook: str,
    arguments: Sequence[str] = (),
    *,
    name: str,
    extra: Mapping[str, Any] | None = None,
    label: str = "",
    timeout_seconds: float = 600,
    say: Callable[[str], None] = lambda line: None,
) -> Play:
    """Run `playbooks/<playbook>.yml` and return how it went, also when it failed.

    `name` heads the log's file name, `extra` goes in as `-e`.

    Raises AssertionError when it outlives `timeout_seconds`.
    """
    title = " ".join([name, label or playbook])
    log_path = (
        LOG_DIR / f"{name}-{next(_number):02}-{re.sub(r'[^a-z0-9]+', '-', (label or playbook).lower())}.log"
    )
    log_path.parent.mkdir(parents=True, exist_ok=True)
    command = [
        str(PROJECT_DIR / ".venv/bin/ansible-playbook"),
        "-i",
        str(inventory),
        f"playbooks/{playbook}.yml",
    ]
    command += ["-e", json.dumps(dict(extra))] if extra else []
    command += arguments
    say(f"{title} …")
    started = time.monotonic()
    with log_path.open("wb") as log:
        log.write(f"$ {shlex.join(command)}\n".encode())
        log.flush()
        returncode = _wait(command, log, timeout_seconds, title)
    seconds = time.monotonic() - started
    play = Play(title, returncode, log_path.read_text(errors="replace"), seconds, log_path)
    say(f"{title}: exit status {returncode}, changed={play.changed}, {seconds:.1f} s")
    return play


def _wait(command: list[str], log: Any, timeout_seconds: float, title: str) -> int:
    # A session of its own, so that a run that hangs is ended with the workers and connections it began.
    process = subprocess.Popen(
        command,
        cwd=PROJECT_DIR,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **ENVIRONMENT},
        start_new_session=True,
    )
    try:
        return process.wait(timeout_seconds)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        if isinstance(error, subprocess.TimeoutExpired):
            raise AssertionError(f"{title}: no end within {timeout_seconds:g} s; see {log.name}") from error
        raise
