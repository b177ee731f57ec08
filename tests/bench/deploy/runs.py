"""Run ansible-playbook and see what it costs: seconds, the controller's CPU, tasks, round trips."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import PROJECT_DIR

TIMEOUT_SECONDS = 1800
CALLBACK_DIR = Path(__file__).with_name("callback")
ANSIBLE_PLAYBOOK = PROJECT_DIR / ".venv/bin/ansible-playbook"
#: What a controller starts to reach a host. rsync starts ssh; sftp too, but by its full path.
CLIENTS = ("ssh", "sftp")
# `ssh -o ControlPersist` asks ssh what it can do, and no host.
CLIENT = """#!/bin/sh
[ $# -gt 2 ] && echo {name} >> {calls}
exec {real} "$@"
"""


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a run.

    :param ran: on how many hosts it was not skipped.
    :param seconds: from its start to the next one's, or to the recap.
    :param parts: seconds by what it says it did.
    """

    name: str
    ran: int
    seconds: float
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run.

    :param seconds: from the start of the process to its end.
    :param cpu_seconds: of the process and all that it started and waited for, on the controller alone.
    :param round_trips: calls of ssh and sftp, each one question to one host and its answer.
    :param before_seconds: until the first task.
    :param after_seconds: from the recap on.
    """

    seconds: float
    cpu_seconds: float
    round_trips: int
    before_seconds: float
    after_seconds: float
    tasks: Sequence[Task]
    output: str

    @property
    def tasks_run(self) -> int:
        """How many tasks did something on any host: those skipped on all are not among them."""
        return sum(1 for task in self.tasks if task.ran)

    def figures(self) -> dict[str, Any]:
        """Return what a report keeps of it."""
        kept = {**asdict(self), "tasks_run": self.tasks_run}
        del kept["output"], kept["tasks"]
        return kept


class Runner:
    """Runs playbooks, counting. Its folder comes first on their PATH, with programs that count and go on."""

    def __init__(self, folder: Path) -> None:
        """Make the counting programs.

        :param folder: of this runner alone.
        :raises RuntimeError: if there is no ssh.
        """
        self.calls, self.noted, self.bin = folder / "calls", folder / "tasks.json", folder / "bin"
        self.bin.mkdir(parents=True)
        for name in CLIENTS:
            real = shutil.which(name)
            if real is None:
                raise RuntimeError(f"there is no {name}: apt-get install openssh-client")
            (self.bin / name).write_text(CLIENT.format(name=name, calls=self.calls, real=real))
            (self.bin / name).chmod(0o755)

    def environment(self) -> dict[str, str]:
        """Return what a run that is counted has in its environment."""
        # A shell that keeps Python from its caches would have each run compile the plugins anew.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {
            **kept,
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(PROJECT_DIR / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACK_DIR),
            "ANSIBLE_CALLBACKS_ENABLED": "bench_tasks",
            "BENCH_TASKS": str(self.noted),
        }

    def play(
        self, playbook: Path, inventory: Path, *arguments: str, extra: Mapping[str, Any] | None = None
    ) -> Run:
        """Run a playbook as a person would.

        :param extra: goes in as ``-e``.
        :raises RuntimeError: with its last words, if it fails or takes over :data:`TIMEOUT_SECONDS`.
        """
        command = [str(ANSIBLE_PLAYBOOK), "-i", str(inventory), str(playbook), *arguments]
        return self.run([*command, "-e", json.dumps(dict(extra))] if extra else command)

    def run(self, command: Sequence[str]) -> Run:
        """Run a command that ends in a recap; see :meth:`play`."""
        self.calls.write_text("")
        self.noted.unlink(missing_ok=True)
        with self.calls.with_name("output").open("w+b") as output:
            began, clock = time.time(), time.monotonic()
            status, cpu_seconds = _wait(command, output, self.environment())
            seconds = time.monotonic() - clock
            output.seek(0)
            said = output.read().decode(errors="replace")
        if status != 0 or not self.noted.exists():
            raise RuntimeError(f"exit status {status}: {' '.join(command)}\n{said[-4000:]}")
        noted = json.loads(self.noted.read_text())
        tasks = _tasks(noted["tasks"], noted["ended"])
        before = noted["tasks"][0]["began"] - began if tasks else noted["ended"] - began
        after = began + seconds - noted["ended"]
        round_trips = len(self.calls.read_text().splitlines())
        return Run(seconds, cpu_seconds, round_trips, before, after, tasks, said)


def _tasks(entries: Sequence[Mapping[str, Any]], ended: float) -> list[Task]:
    ends = [*(entry["began"] for entry in entries), ended][1:]
    return [
        Task(entry["name"], entry["ran"], end - entry["began"], entry["parts"])
        for entry, end in zip(entries, ends, strict=True)
    ]


def _wait(command: Sequence[str], output: Any, environment: Mapping[str, str]) -> tuple[int, float]:
    """Run a command to its end; return its exit status and the CPU seconds of its family.

    The kernel adds up those of all descendants that were waited for (getrusage(2), wait4(2)). Left out is
    ssh's master, which stays in the background for the next run.
    """
    # A session of its own, so that a run that hangs is ended with all that it began.
    process = subprocess.Popen(
        command,
        cwd=PROJECT_DIR,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    limit = threading.Timer(TIMEOUT_SECONDS, os.killpg, (process.pid, signal.SIGKILL))
    limit.start()
    try:
        _, status, used = os.wait4(process.pid, 0)
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        raise
    finally:
        limit.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, used.ru_utime + used.ru_stime
