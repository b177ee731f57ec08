"""Start each contestant in turn, so many times over, and measure each view of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

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

    :param runs: how often all contestants are started anew.
    :param turns: how often each is measured in a run, in turn with the others.
    :param closed_seconds: of the closed loop in one turn, about.
    :param open_seconds: of the open one.
    :param slow_each: requests of each of the 500 connections.
    :param slow_seconds: after which requests that wait for the peer are left.
    :param workers: processes of each server.
    :param pool: connections to the database of each server.
    """

    runs: int = 7
    turns: int = 4
    closed_seconds: float = 0.5
    open_seconds: float = 1.0
    slow_each: int = 3
    slow_seconds: float = 12.0
    workers: int = 2
    pool: int = 40


@dataclass(frozen=True, slots=True)
class Measured:
    """One turn of a contestant at a view, in the closed loop.

    :param per_second: answers.
    :param app_us: microseconds of CPU a request, of the app's processes.
    :param bad: requests without an answer 200.
    """

    run: int
    turn: int
    contestant: str
    view: str
    requests: int
    per_second: float
    app_us: float
    nginx_us: float
    postgresql_us: float
    bad: int

    @property
    def cpu_us(self) -> float:
        """Of the whole server side but the database."""
        return self.app_us + self.nginx_us


@dataclass(frozen=True, slots=True)
class Waits:
    """How long clients of a contestant waited in a run, all turns of the open loop together.

    :param rate: requests a second that were due; of a slow view, as many as were answered.
    :param bad: requests without an answer 200.
    """

    run: int
    contestant: str
    view: str
    rate: float
    requests: int
    p50_ms: float
    p99_ms: float
    bad: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What a contestant's processes hold, alone on the machine, after its views were asked."""

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
    """nginx, the database and the slow peer, and the contestants between them."""

    def __init__(
        self, plan: Plan, contestants: Sequence[Contestant], views: Sequence[View], folder: Path
    ) -> None:
        """Keep what is to be measured, and where its files go."""
        self.plan, self.contestants, self.views, self.folder = plan, contestants, views, folder
        self.measured: list[Measured] = []
        self.waits: list[Waits] = []
        self.memory: list[Memory] = []
        self._servers, self._others = sides()

    def run(self, source: Path) -> None:
        """Measure; what was found is in ``measured``, ``waits`` and ``memory``.

        :param source: the folder that flask_ops is imported from.
        :raises RuntimeError: if a contestant does not start, or answers otherwise than it must.
        """
        self._source = gunicorn.snapshot(source, self.folder / "source")
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
            most = (len(self.contestants) + 1) * self.plan.pool
            served = postgresql.serve(self.folder / "postgresql", most)
            self._database, self._postgresql = stack.enter_context(served)
            self._peer = stack.enter_context(_peer())
            with on(self._servers):
                served = nginx.serve(self.folder / "nginx", sites)
                self._ports, self._nginx = stack.enter_context(served)
            for contestant in self.contestants:
                self._rehearse(contestant)
            for run in range(self.plan.runs):
                began = time.monotonic()
                self._run(run)
                print(f"run {run + 1}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)

    def _serves(self, contestant: Contestant, view: View) -> bool:
        return contestant.is_framework or view.is_for_all

    def _rehearse(self, contestant: Contestant) -> None:
        """See that it starts and gives the right answers, note its memory, have its bytecode written."""
        # In the second start: what compiles holds more memory.
        for is_second in (False, True):
            with self._started(contestant) as pid, self._words(contestant.name):
                for view in self.views:
                    if self._serves(contestant, view):
                        check(self._ports[contestant.name], view)
                        if is_second and not view.is_slow:
                            self._closed(contestant.name, view, 20 * view.connections)
                if is_second and pid:
                    held = [memory_mib(member)["Pss"] for member in family(pid)]
                    self.memory.append(Memory(contestant.name, len(held), sum(held)))

    @contextmanager
    def _started(self, contestant: Contestant) -> Iterator[int | None]:
        """Run it on its cores; yield the process id at the head of its family, None where nginx answers."""
        if not contestant.starts:
            yield None
            return
        folder = self.folder / contestant.name
        shutil.rmtree(folder)
        folder.mkdir()
        plan = self.plan
        place = Place(folder, self._source, self._database, self._peer, plan.workers, plan.pool)
        with ExitStack() as stack:
            with on(self._servers):
                pid = stack.enter_context(contestant.serve(place))
            settle(pid)
            yield pid

    @contextmanager
    def _words(self, name: str) -> Iterator[None]:
        """Add to an error what the server and nginx have said."""
        try:
            yield
        except (RuntimeError, OSError) as error:
            logs = (self.folder / name / "app.log", self.folder / "nginx/log/error.log")
            words = [log.read_text()[-3000:] for log in logs if log.exists()]
            raise RuntimeError("\n".join([f"{name}: {error}", *words])) from error

    def _run(self, run: int) -> None:
        with ExitStack() as stack:
            pids = {each.name: stack.enter_context(self._started(each)) for each in self.contestants}
            for view in self.views:
                names = [each.name for each in self.contestants if self._serves(each, view)]
                if view.is_slow:
                    for name in in_turn(names, run):
                        with self._words(name):
                            self._slow(run, name, view, pids[name])
                else:
                    self._turns(run, names, view, pids)

    def _turns(self, run: int, names: Sequence[str], view: View, pids: Mapping[str, int | None]) -> None:
        rates: dict[str, list[float]] = {name: [] for name in names}
        for name in names:
            # Twice: caches of plans, templates and connections fill in the first.
            for _ in range(2):
                with self._words(name):
                    rates[name] = [load.per_second(self._closed(name, view, 8 * view.connections))]
        for turn in range(self.plan.turns):
            for name in in_turn(names, run * self.plan.turns + turn):
                requests = int(rates[name][-1] * self.plan.closed_seconds)
                requests = min(max(requests, 4 * view.connections), MOST_ON_ONE * view.connections)
                meter = self._meter(pids[name])
                with self._words(name):
                    rates[name].append(load.per_second(self._closed(name, view, requests)))
                used = meter.used()
                found = Measured(
                    run, turn, name, view.name, requests, rates[name][-1], *_parts(used, requests), bad=0
                )
                self.measured.append(found)
        # Each at its own, whatever the noise of a moment.
        due = {name: OPEN_SHARE * median(rates[name][1:]) for name in names}
        sent: dict[str, list[open_loop.Sent]] = {name: [] for name in names if due[name] <= MOST_OPEN_RATE}
        for turn in range(self.plan.turns):
            for name in in_turn(list(sent), run * self.plan.turns + turn):
                with self._words(name):
                    sent[name].append(self._open(name, view, due[name], turn))
        self.waits += [_waits(run, name, view, due[name], sent[name]) for name in sent]

    def _meter(self, pid: int | None) -> Meter:
        groups = {"nginx": self._nginx, "postgresql": self._postgresql}
        return Meter(**groups | ({"app": pid} if pid else {}))

    def _closed(self, name: str, view: View, requests: int) -> list[tuple[int, int]]:
        body = None
        if view.body is not None:
            path = self.folder / f"{view.name}.body"
            path.write_bytes(view.body)
            body = load.Body(path, view.content_type)
        return load.answers(
            self._ports[name],
            view.paths,
            requests=requests,
            connections=view.connections,
            folder=self.folder,
            scheme="https",
            body=body,
        )

    def _open(self, name: str, view: View, rate: float, turn: int) -> open_loop.Sent:
        requests = [open_loop.request(path, view.body, view.content_type) for path in view.paths]
        with open_loop.Client(self._ports[name], OPEN_CONNECTIONS) as client:
            return client.at_rate(requests, open_loop.arrivals(rate, self.plan.open_seconds, seed=turn))

    def _slow(self, run: int, name: str, view: View, pid: int | None) -> None:
        with open_loop.Client(self._ports[name], view.connections) as client:
            meter = self._meter(pid)
            data = open_loop.request(view.paths[0])
            sent = client.at_once(data, self.plan.slow_each, self.plan.slow_seconds)
            used = meter.used()
        answered = len(sent.waits) - sent.bad
        rate = answered / sent.seconds if answered else 0.0
        parts, bad = _parts(used, max(1, answered)), sent.sent - answered
        self.measured.append(Measured(run, 0, name, view.name, sent.sent, rate, *parts, bad=bad))
        self.waits.append(_waits(run, name, view, rate, [sent]))


def in_turn(names: Sequence[str], turn: int) -> list[str]:
    """Return the names, each turn beginning one further on, every other one backwards."""
    start = turn % max(1, len(names))
    order = [*names[start:], *names[:start]]
    return order[::-1] if turn % 2 else order


def _parts(used: Mapping[str, float], requests: int) -> list[float]:
    """Return microseconds of CPU a request, of the app, nginx and the database."""
    return [1e6 * used.get(group, 0.0) / requests for group in ("app", "nginx", "postgresql")]


def _waits(run: int, name: str, view: View, rate: float, sent: Sequence[open_loop.Sent]) -> Waits:
    waits = [wait for one in sent for wait in one.waits]
    requests = sum(one.sent for one in sent)
    bad = requests - len(waits) + sum(one.bad for one in sent)
    p50, p99 = (percentile(waits, share) / 1000 if waits else 0.0 for share in (0.5, 0.99))
    return Waits(run, name, view.name, rate, requests, p50, p99, bad)


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
