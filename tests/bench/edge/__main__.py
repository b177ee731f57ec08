"""Measure what the project's nginx costs a request, beside nginx as its manual puts it before an app.

``make bench-edge`` runs it, with nothing else running on the machine; it needs nginx, nghttp2-client
(h2load) and openssl from apt. One gunicorn with gevent serves one line of JSON; before it stand a plain
proxy, the project's site without TLS, the same with TLS over kept connections, and with a new connection
for every request, which pays a whole handshake each time (ECDSA on P-256). The same line comes from a
static file as well, and from nginx's cache, without TLS both. They are asked in turn, the
order turning from round to round. CPU is the kernel's account, in microseconds a request; the ratio is
the median of the rounds' ratios to the plain proxy in the same round, of nginx and gunicorn together,
with its interval by the bootstrap. How many requests a second were answered is the clock's account, the
client's own CPU in it, and compared between cache and file alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any

from .. import FLASK_OPS, gunicorn, load, machine, nginx, work_folder
from ..processes import Meter
from ..spread import of_median

PLAIN = "plain"
# The app declares it for everybody, and its site caches it.
KEPT = "/kept"
FILE = "hello.json"
BODY = '{"hello":"world"}\n'
QUICK = {"epochs": 1, "rounds": 3, "requests": 400}


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to nginx.

    :param site: the site that is asked.
    :param is_new: whether each request has a connection of its own.
    :param path: what is asked for.
    """

    about: str
    site: str
    is_new: bool = False
    path: str = "/hello"


VARIANTS = {
    PLAIN: Variant("nginx as its manual has it, no TLS", PLAIN),
    "plain_again": Variant("the same once more: what noise alone makes", PLAIN),
    "edge": Variant("the project's site without TLS", "edge"),
    "edge_tls": Variant("the project's site, TLS", "edge_tls"),
    "edge_tls_new": Variant("the same, a new connection each", "edge_tls", is_new=True),
    "file": Variant("the project's site, from a static file", "edge", path=f"/static/{FILE}"),
    "cached": Variant("the project's site, from its cache", "edge", path=KEPT),
}


@dataclass(frozen=True, slots=True)
class Slice:
    """One measurement: microseconds of CPU a request, by who used them, and requests a second."""

    epoch: int
    rate: float
    gunicorn: float
    nginx: float

    @property
    def cpu(self) -> float:
        """Of the whole server side."""
        return self.gunicorn + self.nginx


def measure(chosen: argparse.Namespace, folder: Path) -> dict[str, list[Slice]]:
    """Return the measurements of each variant, in the order of the rounds."""
    slices: dict[str, list[Slice]] = defaultdict(list)
    socket = folder / "app.sock"
    sites = {
        PLAIN: nginx.Site(socket, is_plain=True),
        "edge": nginx.Site(socket, cached=KEPT),
        "edge_tls": nginx.Site(socket, has_tls=True),
    }
    env = {
        "GUNICORN_WORKERS": str(chosen.workers),
        "BENCH_DATABASE_URL": "postgresql://nobody@localhost/none",
        "BENCH_RELEASE": socket.stem,
    }
    static = folder / "nginx/current/static"
    static.mkdir(parents=True)
    (static / FILE).write_text(BODY)
    with nginx.serve(folder / "nginx", sites) as (ports, nginx_pid):
        for epoch in range(chosen.epochs):
            with gunicorn.serve(socket, "stock_conf", FLASK_OPS, env) as gunicorn_pid:
                send = Sender(chosen, folder, ports)
                for variant in VARIANTS.values():
                    send(variant)
                for turn in range(chosen.rounds):
                    for name in in_turn(epoch * chosen.rounds + turn):
                        meter, begun = Meter(gunicorn=gunicorn_pid, nginx=nginx_pid), time.monotonic()
                        requests = send(VARIANTS[name])
                        rate = requests / (time.monotonic() - begun)
                        used = {group: 1e6 * seconds / requests for group, seconds in meter.used().items()}
                        slices[name].append(Slice(epoch, rate, **used))
    return slices


class Sender:
    """Sends the load of one measurement."""

    def __init__(self, chosen: argparse.Namespace, folder: Path, ports: dict[str, int]) -> None:
        """Keep where to."""
        self._chosen, self._folder, self._ports = chosen, folder, ports

    def __call__(self, variant: Variant) -> int:
        """Send, and return how many requests it were."""
        # All connections of one call are opened at once.
        requests = self._chosen.handshakes if variant.is_new else self._chosen.requests
        load.send(
            self._ports[variant.site],
            [variant.path],
            requests=requests,
            connections=requests if variant.is_new else self._chosen.connections,
            folder=self._folder,
            scheme="https" if variant.site == "edge_tls" else "http",
        )
        return requests


def in_turn(turn: int) -> list[str]:
    """Return the variants, each round beginning one further on, every other one backwards."""
    names = list(VARIANTS)
    start = turn % len(names)
    names = names[start:] + names[:start]
    return names[::-1] if turn % 2 else names


def results(slices: dict[str, list[Slice]]) -> list[dict[str, Any]]:
    """Return a row for each variant."""
    rows = [_row(name, slices[name], slices[PLAIN]) for name in VARIANTS]
    by_rate = _ratio(slices["cached"], slices["file"], attrgetter("rate"))
    return [row | ({"rate_to_file": by_rate} if row["variant"] == "cached" else {}) for row in rows]


def _row(name: str, ours: list[Slice], plain: list[Slice]) -> dict[str, Any]:
    return {
        "variant": name,
        "about": VARIANTS[name].about,
        "nginx_us": round(median(one.nginx for one in ours), 1),
        "gunicorn_us": round(median(one.gunicorn for one in ours), 1),
        "requests_per_second": round(median(one.rate for one in ours)),
        "cpu_ratio": _ratio(ours, plain, attrgetter("cpu")),
    }


def _ratio(ours: list[Slice], others: list[Slice], of: Callable[[Slice], float]) -> dict[str, float]:
    groups: dict[int, list[float]] = {}
    for one, other in zip(ours, others, strict=True):
        groups.setdefault(one.epoch, []).append(of(one) / of(other))
    return asdict(of_median(list(groups.values())))


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as text."""
    lines = [
        f"  {'one line of JSON, CPU a request':44}{'nginx':>9}{'gunicorn':>10}{'both / plain':>14}"
        f"{'95 % of medians':>18}"
    ]
    for row in rows:
        ratio = row["cpu_ratio"]
        lines.append(
            f"  {row['about']:44}{row['nginx_us']:6.0f} µs{row['gunicorn_us']:7.0f} µs{ratio['median']:14.2f}"
            f"{ratio['low']:10.2f} to {ratio['high']:.2f}"
        )
        if by_rate := row.get("rate_to_file"):
            lines.append(
                f"  requests a second, cache / file: {by_rate['median']:.2f}, "
                f"{by_rate['low']:.2f} to {by_rate['high']:.2f}"
            )
    return "\n".join(lines)


def options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="bench.edge", description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4, help="how often gunicorn is started anew")
    parser.add_argument("--rounds", type=int, default=15, help="measurements of each variant in an epoch")
    parser.add_argument(
        "--requests", type=int, default=2000, help="of one measurement, over kept connections"
    )
    parser.add_argument(
        "--handshakes", type=int, default=200, help="of one measurement, each with a new connection"
    )
    parser.add_argument("--workers", type=int, default=max(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--connections", type=int, default=4, help="requests under way at once")
    parser.add_argument("--quick", action="store_true", help=f"only to see that it runs: {QUICK}")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    chosen = parser.parse_args()
    if chosen.quick:
        vars(chosen).update(QUICK)
    return chosen


def main() -> int:
    """Measure, print, and return the exit status."""
    chosen = options()
    if lacking := machine.missing(openssl=shutil.which("openssl")):
        print("bench.edge: first", "; ".join(lacking), file=sys.stderr)
        return 1
    busy = machine.load_average()
    with work_folder() as folder:
        rows = results(measure(chosen, folder))
    facts = {"machine": machine.describe(), "versions": machine.versions(), "load_before": busy}
    if chosen.json:
        print(json.dumps({**facts, "results": rows}, indent=1))
        return 0
    for title in ("machine", "versions"):
        print(f"{title}: {', '.join(f'{key} {value}' for key, value in facts[title].items())}")
    if busy > machine.QUIET:
        print(f"THE MACHINE WAS BUSY (load {busy:.1f}): ratios are as good as their intervals")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
