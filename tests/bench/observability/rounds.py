"""Measure every variant in turn, many times over."""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

from .. import gunicorn, ingest, load, nginx, postgresql
from ..processes import Meter
from .variants import Variant

CUSTOMERS = range(1, 101, 2)
VIEWS = {
    "db": [f"/customers/{number}/orders" for number in CUSTOMERS],
    "logged": [f"/customers/{number}/logged" for number in CUSTOMERS],
    "json": ["/hello"],
}
POOL = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    :param epochs: how often all servers are started anew.
    :param rounds: how often each is measured in an epoch.
    :param requests: view to requests of one measurement.
    :param workers: of each server.
    :param connections: requests under way at once.
    """

    epochs: int
    rounds: int
    requests: dict[str, int]
    workers: int
    connections: int


@dataclass(frozen=True, slots=True)
class Slice:
    """One measurement: microseconds of CPU a request, by who used them, and of waiting for each answer."""

    epoch: int
    gunicorn: float
    nginx: float
    postgresql: float
    waits: Sequence[int]

    @property
    def cpu(self) -> float:
        """What the ratios are made of: the app's server and nginx."""
        return self.gunicorn + self.nginx


class Bench:
    """All servers of one epoch after the other, behind one nginx and before one database."""

    def __init__(self, plan: Plan, variants: Sequence[Variant], source: Path, folder: Path) -> None:
        """Keep what is to be measured, and where its files go."""
        self.plan = plan
        self.source = gunicorn.snapshot(source, folder / "source")
        self.variants = variants
        self.folder = folder
        self.slices: dict[tuple[str, str], list[Slice]] = defaultdict(list)
        self.idle: dict[str, float] = {}

    def run(self) -> None:
        """Measure; the results are in ``slices``, by view and variant."""
        most = len(self.variants) * self.plan.workers * POOL * 3 + 10
        with ExitStack() as stack:
            self.database, self.postgresql = stack.enter_context(
                postgresql.serve(self.folder / "postgresql", most)
            )
            # Without TLS: it costs the same in every variant, and would only make the ratios smaller.
            sites = {
                variant.name: nginx.Site(self.folder / f"{variant.name}.sock") for variant in self.variants
            }
            self.ports, self.nginx = stack.enter_context(nginx.serve(self.folder / "nginx", sites))
            self.sentry = stack.enter_context(ingest.serve())
            for epoch in range(self.plan.epochs):
                self._epoch(epoch)
            self.envelopes = self.sentry.envelopes

    def _epoch(self, epoch: int) -> None:
        begin = time.monotonic()
        with ExitStack() as stack:
            pids = {variant.name: stack.enter_context(self._server(variant)) for variant in self.variants}
            for view in self.plan.requests:
                for variant in self.variants:
                    self._send(view, variant.name, max(10, self.plan.requests[view] // 4))
            for turn in range(self.plan.rounds):
                for view, name in self._order(epoch * self.plan.rounds + turn):
                    self.slices[view, name].append(self._slice(epoch, view, name, pids[name]))
            self._rest(pids)
        print(f"epoch {epoch + 1}: {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)

    def _server(self, variant: Variant) -> AbstractContextManager[int]:
        env = variant.environment(self.folder / variant.name, self.sentry.dsn)
        env |= {"BENCH_DATABASE_URL": self.database, "GUNICORN_WORKERS": str(self.plan.workers)}
        return gunicorn.serve(self.folder / f"{variant.name}.sock", variant.config, self.source, env)

    def _order(self, turn: int) -> Iterator[tuple[str, str]]:
        """Yield views and variants, each round beginning one further on, every other one backwards."""
        names = [variant.name for variant in self.variants]
        start = turn % len(names)
        names = names[start:] + names[:start]
        for view in self.plan.requests:
            yield from ((view, name) for name in (reversed(names) if turn % 2 else names))

    def _send(self, view: str, name: str, requests: int) -> list[int]:
        connections = self.plan.connections
        try:
            return load.send(
                self.ports[name], VIEWS[view], requests=requests, connections=connections, folder=self.folder
            )
        except RuntimeError as error:
            logs = (self.folder / f"{name}.log", self.folder / "nginx/log/error.log")
            words = [log.read_text()[-3000:] for log in logs]
            raise RuntimeError("\n".join([name, str(error), *words])) from None

    def _slice(self, epoch: int, view: str, name: str, pid: int) -> Slice:
        requests = self.plan.requests[view]
        meter = Meter(gunicorn=pid, nginx=self.nginx, postgresql=self.postgresql)
        waits = self._send(view, name, requests)
        used = {group: seconds * 1e6 / requests for group, seconds in meter.used().items()}
        return Slice(epoch, waits=waits, **used)

    def _rest(self, pids: dict[str, int]) -> None:
        """Note what a server uses when nobody asks: milliseconds of CPU a second."""
        meter, begin = Meter(**pids), time.monotonic()
        time.sleep(2)
        seconds = time.monotonic() - begin
        self.idle = {name: used * 1e3 / seconds for name, used in meter.used().items()}
