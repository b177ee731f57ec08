"""Serve an app under each setting in turn, and ask it."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import gunicorn, load, nginx
from ..processes import Meter, family, memory_mib
from ..spread import percentile

# What the app's own environment must not decide here.
OURS = ("LISTEN_", "FLASK_OPS_DRAIN_FILE", "FLASK_OPS_CONTROL_SOCKET")


class AppProblem(Exception):
    """The app cannot be measured as it is."""


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """How gunicorn serves.

    :param worker_class: as ``app_web_worker_class``.
    :param workers: as ``app_web_workers``.
    """

    worker_class: str
    workers: int

    def __str__(self) -> str:
        """Name it for people."""
        return f"{self.worker_class} x {self.workers}"


@dataclass(frozen=True, slots=True)
class Asked:
    """An app and what is asked of it.

    :param wsgi: ``module:attribute``, or ``module:factory()``.
    :param python: of the virtual environment that has the app and flask_ops.
    :param folder: that the app is imported from.
    :param environment: the app's own.
    :param paths: asked for in turn.
    :param headers: ``Name: value``, of each request.
    :param connections: kept; requests under way at once.
    """

    wsgi: str
    python: Path
    folder: Path
    environment: Mapping[str, str]
    paths: Sequence[str]
    headers: Sequence[str]
    connections: int


@dataclass(frozen=True, slots=True)
class Turn:
    """What one setting did in one turn.

    :param per_second: answers.
    :param cpu_us: microseconds of CPU a request, of all the app's processes.
    :param pss_mib: memory of all of them, what they share counted once.
    """

    round: int
    worker_class: str
    workers: int
    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    pss_mib: float

    @property
    def setting(self) -> Setting:
        """What was measured."""
        return Setting(self.worker_class, self.workers)


def environment_of(file: Path) -> dict[str, str]:
    """Return what a file for systemd's ``EnvironmentFile=`` sets.

    :raises AppProblem: if a line is no assignment.
    """
    found = {}
    for number, line in enumerate(file.read_text().splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(("#", ";")):
            continue
        name, sign, value = line.strip().partition("=")
        if not sign or not name.isidentifier():
            raise AppProblem(f"{file}, line {number} is not NAME=value")
        quoted = value[:1] in ("'", '"')
        found[name] = "".join(shlex.split(value)) if quoted else value
    return found


def settings(classes: Sequence[str], counts: Sequence[int]) -> list[Setting]:
    """Return every combination, none twice."""
    return [Setting(name, count) for name in dict.fromkeys(classes) for count in sorted(set(counts))]


class Tuning:
    """Measurements of one app.

    :param asked: the app.
    :param seconds: of load in one turn, about.
    :param folder: for sockets and logs.
    """

    def __init__(self, asked: Asked, seconds: float, folder: Path) -> None:
        """Keep them; :meth:`run` measures."""
        self.asked, self.seconds, self.folder = asked, seconds, folder
        self.turns: list[Turn] = []

    def run(self, chosen: Sequence[Setting], rounds: int, say: Callable[[str], None]) -> None:
        """Measure each setting so many times, started anew each time; the order turns.

        :param say: told what is done.
        :raises AppProblem: if the app does not start, or answers otherwise than 200.
        """
        for number in range(rounds):
            for setting in chosen if number % 2 == 0 else chosen[::-1]:
                self.turns.append(self._turn(number, setting))
                say(f"round {number + 1} of {rounds}: {setting}: {self.turns[-1].per_second:.0f} a second")

    def _turn(self, number: int, setting: Setting) -> Turn:
        (port,), path = nginx.free_ports(1), self.folder / "app.sock"
        command = [self.asked.python, "-m", "gunicorn", "--config", "python:flask_ops.gunicorn_conf"]
        command += ["--chdir", self.asked.folder, "--no-control-socket"]
        env = self._environment(setting, path, port)
        try:
            with gunicorn.serve_by(path, command, env, signal.SIGTERM) as pid:
                return self._ask(number, setting, port, pid)
        except RuntimeError as error:
            raise AppProblem(f"{setting}: {error}") from error

    def _ask(self, number: int, setting: Setting, port: int, pid: int) -> Turn:
        connections = self.asked.connections
        # Caches and pools fill in the first; the second says how many make a turn.
        for _ in range(2):
            rate = load.per_second(self._load(port, 8 * connections))
        requests = max(4 * connections, int(rate * self.seconds))
        meter = Meter(app=pid)
        answers = self._load(port, requests)
        used = meter.used()["app"]
        waits = [taken / 1000 for _, taken in answers]
        return Turn(
            number,
            setting.worker_class,
            setting.workers,
            requests,
            per_second=load.per_second(answers),
            p50_ms=percentile(waits, 0.5),
            p99_ms=percentile(waits, 0.99),
            cpu_us=1e6 * used / requests,
            pss_mib=sum(memory_mib(member)["Pss"] for member in family(pid)),
        )

    def _load(self, port: int, requests: int) -> list[tuple[int, int]]:
        return load.answers(
            port,
            self.asked.paths,
            requests=requests,
            connections=self.asked.connections,
            folder=self.folder,
            headers=self.asked.headers,
        )

    def _environment(self, setting: Setting, path: Path, port: int) -> dict[str, str]:
        metrics = self.folder / "metrics"
        metrics.mkdir(exist_ok=True)
        given = {**os.environ, **self.asked.environment}
        kept = {name: value for name, value in given.items() if not name.startswith(OURS)}
        return kept | {
            "APP_WSGI": self.asked.wsgi,
            "FLASK_OPS_SERVICE": "tune",
            # The first to know when it serves, the second for the client.
            "GUNICORN_BIND": f"unix:{path},127.0.0.1:{port}",
            "GUNICORN_LOG_LEVEL": "warning",
            "GUNICORN_WORKER_CLASS": setting.worker_class,
            "GUNICORN_WORKERS": str(setting.workers),
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
            "PYTHONPATH": str(self.asked.folder),
        }
