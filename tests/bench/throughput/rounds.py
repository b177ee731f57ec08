"""Start each contestant in turn, so many times over, and measure each view of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .. import APP_PYTHON, SERVED_DIR, gunicorn, load, nginx, open_loop, postgresql
from ..processes import Meter, cpu_seconds, family, memory_mib, stop
from ..spread import percentile
from .answers import check
from .contestants import Contestant, Place
from .views import View

NGINX = "nginx"
ANSWER = '{"hello":"world"}'
OPEN_SHARE = 0.7
OPEN_CONNECTIONS = 64
# nginx closes a connection after 1,000 requests (keepalive_requests): a new one would be measured with them.
MOST_ON_ONE = 900
# Above this the client of the open loop, which is written in Python, would measure itself.
MOST_OPEN_RATE = 5000
SETTLE_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    :param runs: how often each contestant is started anew and measured.
    :param closed_seconds: of the closed loop, about.
    :param open_seconds: of the open one.
    :param slow_each: requests of each of the 500 connections.
    :param slow_seconds: after which requests that wait for the peer are left.
    :param workers: processes of each server.
    :param pool: connections to the database of each server.
    """

    runs: int = 7
    closed_seconds: float = 2.0
    open_seconds: float = 3.0
    slow_each: int = 3
    slow_seconds: float = 12.0
    workers: int = 2
    pool: int = 40


@dataclass(frozen=True, slots=True)
class Measured:
    """One view of one contestant in one run.

    :param per_second: answers in the closed loop.
    :param app_us: microseconds of CPU a request, in the closed loop, of the app's processes.
    :param p50_ms: of the waits in the open loop; of a slow view, in its own.
    :param open_per_second: requests that the open loop sent.
    :param bad: requests without an answer 200.
    """

    run: int
    contestant: str
    view: str
    requests: int
    per_second: float
    app_us: float
    nginx_us: float
    postgresql_us: float
    p50_ms: float | None
    p99_ms: float | None
    open_per_second: float | None
    bad: int

    @property
    def cpu_us(self) -> float:
        """Of the whole server side but the database."""
        return self.app_us + self.nginx_us


@dataclass(frozen=True, slots=True)
class Memory:
    """What a contestant's processes hold after its views were asked."""

    run: int
    contestant: str
    processes: int
    pss_mib: float


def sides() -> tuple[set[int], set[int]]:
    """Return the cores of the servers, and those of the clients and the database; of one core, both."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    return (set(cores[:half]), set(cores[half:])) if half else (set(cores), set(cores))


@contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """Start processes on some cores; they keep to them."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Bench:
    """nginx, the database and the slow peer, and one contestant after the other behind and before them."""

    def __init__(
        self, plan: Plan, contestants: Sequence[Contestant], views: Sequence[View], folder: Path
    ) -> None:
        """Keep what is to be measured, and where its files go."""
        self.plan, self.contestants, self.views, self.folder = plan, contestants, views, folder
        self.measured: list[Measured] = []
        self.memory: list[Memory] = []
        self._servers, self._others = sides()

    def run(self, source: Path) -> None:
        """Measure; what was found is in ``measured`` and ``memory``.

        :param source: the folder that flask_ops is imported from.
        :raises RuntimeError: if a contestant does not start, or answers otherwise than it must.
        """
        source = gunicorn.snapshot(source, self.folder / "source")
        for contestant in self.contestants:
            (self.folder / contestant.name).mkdir()
        sites = {
            contestant.name: nginx.Site(
                self.folder / contestant.name / "app.sock",
                has_tls=True,
                answer="" if contestant.starts else ANSWER,
            )
            for contestant in self.contestants
        }
        with ExitStack() as stack, on(self._others):
            served = postgresql.serve(self.folder / "postgresql", 2 * self.plan.pool + 20)
            self._database, self._postgresql = stack.enter_context(served)
            self._peer = stack.enter_context(_peer())
            with on(self._servers):
                served = nginx.serve(self.folder / "nginx", sites)
                self._ports, self._nginx = stack.enter_context(served)
            for contestant in self.contestants:
                self._rehearse(contestant, source)
            for run in range(self.plan.runs):
                began = time.monotonic()
                for contestant in self._order(run):
                    self._measure(run, contestant, source)
                print(f"run {run + 1}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    def _order(self, run: int) -> list[Contestant]:
        """Return the contestants, each run beginning one further on, every other one backwards."""
        start = run % len(self.contestants)
        order = [*self.contestants[start:], *self.contestants[:start]]
        return order[::-1] if run % 2 else order

    def _asked(self, contestant: Contestant) -> list[View]:
        return [view for view in self.views if contestant.is_framework or view.is_for_all]

    def _rehearse(self, contestant: Contestant, source: Path) -> None:
        """See that it starts and gives the right answers, and have its bytecode written."""
        with self._started(contestant, source):
            for view in self._asked(contestant):
                try:
                    check(self._ports[contestant.name], view)
                except RuntimeError as error:
                    raise RuntimeError(
                        f"{contestant.name}: {error}\n{self._words(contestant.name)}"
                    ) from error

    @contextmanager
    def _started(self, contestant: Contestant, source: Path) -> Iterator[int | None]:
        """Run it on its cores; yield the process id at the head of its family, None where nginx answers."""
        if not contestant.starts:
            yield None
            return
        folder = self.folder / contestant.name
        shutil.rmtree(folder)
        folder.mkdir()
        place = Place(folder, source, self._database, self._peer, self.plan.workers, self.plan.pool)
        with ExitStack() as stack:
            with on(self._servers):
                pid = stack.enter_context(contestant.serve(place))
            settle(pid)
            yield pid

    def _measure(self, run: int, contestant: Contestant, source: Path) -> None:
        views, name = self._asked(contestant), contestant.name
        with self._started(contestant, source) as pid:
            for view in views:
                if view.is_slow and pid:
                    self._hold(run, name, pid)
                self._view(run, name, view, pid)
            if pid and not any(view.is_slow for view in views):
                self._hold(run, name, pid)

    def _hold(self, run: int, name: str, pid: int) -> None:
        """Note the memory: before 500 requests at once, and else at the end."""
        held = [memory_mib(member)["Pss"] for member in family(pid)]
        self.memory.append(Memory(run, name, len(held), sum(held)))

    def _view(self, run: int, name: str, view: View, pid: int | None) -> None:
        groups = {"nginx": self._nginx, "postgresql": self._postgresql} | ({"app": pid} if pid else {})
        try:
            measure = self._slow if view.is_slow else self._loops
            self.measured.append(measure(run, name, view, groups))
        except (RuntimeError, OSError) as error:
            raise RuntimeError(f"{name}, {view.name}: {error}\n{self._words(name)}") from error

    def _words(self, name: str) -> str:
        logs = (self.folder / name / "app.log", self.folder / "nginx/log/error.log")
        return "\n".join(log.read_text()[-3000:] for log in logs if log.exists())

    def _loops(self, run: int, name: str, view: View, groups: dict[str, int]) -> Measured:
        port, seconds = self._ports[name], self.plan.closed_seconds
        # Twice: caches of plans, of templates, of bytecode, and connections, fill in the first.
        for _ in range(2):
            warm = self._closed(port, view, 8 * view.connections)
        requests = int(per_second(warm) * seconds)
        requests = min(max(requests, 4 * view.connections), MOST_ON_ONE * view.connections)
        meter = Meter(**groups)
        done = self._closed(port, view, requests)
        used = {group: 1e6 * each / requests for group, each in meter.used().items()}
        rate = OPEN_SHARE * per_second(done)
        sent = self._open(port, view, rate) if rate <= MOST_OPEN_RATE else None
        return Measured(
            run,
            name,
            view.name,
            requests,
            per_second(done),
            used.get("app", 0.0),
            used["nginx"],
            used["postgresql"],
            p50_ms=percentile(sent.waits, 0.5) / 1000 if sent else None,
            p99_ms=percentile(sent.waits, 0.99) / 1000 if sent else None,
            open_per_second=rate if sent else None,
            bad=sent.sent - len(sent.waits) + sent.bad if sent else 0,
        )

    def _closed(self, port: int, view: View, requests: int) -> list[tuple[int, int]]:
        body = None
        if view.body is not None:
            path = self.folder / f"{view.name}.body"
            path.write_bytes(view.body)
            body = load.Body(path, view.content_type)
        return load.answers(
            port,
            view.paths,
            requests=requests,
            connections=view.connections,
            folder=self.folder,
            scheme="https",
            body=body,
        )

    def _open(self, port: int, view: View, rate: float) -> open_loop.Sent:
        requests = [open_loop.request(path, view.body, view.content_type) for path in view.paths]
        with open_loop.Client(port, OPEN_CONNECTIONS) as client:
            return client.at_rate(requests, open_loop.arrivals(rate, self.plan.open_seconds))

    def _slow(self, run: int, name: str, view: View, groups: dict[str, int]) -> Measured:
        with open_loop.Client(self._ports[name], view.connections) as client:
            meter = Meter(**groups)
            data = open_loop.request(view.paths[0])
            sent = client.at_once(data, self.plan.slow_each, self.plan.slow_seconds)
            answered = len(sent.waits) - sent.bad
            used = {group: 1e6 * each / max(1, answered) for group, each in meter.used().items()}
        return Measured(
            run,
            name,
            view.name,
            sent.sent,
            answered / sent.seconds if answered else 0.0,
            used["app"],
            used["nginx"],
            used["postgresql"],
            p50_ms=percentile(sent.waits, 0.5) / 1000 if sent.waits else None,
            p99_ms=percentile(sent.waits, 0.99) / 1000 if sent.waits else None,
            open_per_second=None,
            bad=sent.sent - answered,
        )


def per_second(answers: Sequence[tuple[int, int]]) -> float:
    """Return the rate from the first request to the last answer.

    :param answers: when each began and how long it took, in microseconds.
    """
    begin = min(began for began, _ in answers)
    end = max(began + taken for began, taken in answers)
    return 1e6 * len(answers) / (end - begin)


def settle(pid: int) -> None:
    """Wait until all processes of a server have started: until they use no more CPU worth naming."""
    last = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < last:
        before = sum(map(cpu_seconds, family(pid)))
        time.sleep(0.3)
        if sum(map(cpu_seconds, family(pid))) - before < 0.02:
            return


@contextmanager
def _peer() -> Iterator[str]:
    command = [APP_PYTHON, SERVED_DIR / "slow_peer.py"]
    peer = subprocess.Popen(command, stdout=subprocess.PIPE, env=gunicorn.environment())
    try:
        yield f"http://127.0.0.1:{int(peer.stdout.readline())}/"
    finally:
        stop(peer, signal.SIGTERM)
