"""Measure what this deployment of a Flask app serves, beside what the field deploys.

``make bench-throughput`` runs it, with nothing else running on the machine; it needs nginx, nghttp2-client
(h2load) and postgresql from apt. The others' packages come from ``requirements/peers.txt``, with hashes, into
``.cache/peers-venv``.

All contestants stand behind the same nginx (the project's own files: TLS, access line, request id, upstream
keep-alive) and before the same PostgreSQL, and are started anew in each run. nginx and the apps run on one
half of the cores, clients and database on the other. Before anything is measured, every answer is checked:
all must give the same. Then each view is asked of all of them in turn, a short while each, so many times
over; the order turns, so that what else the machine does falls on all:

- requests a second, and CPU: h2load, so many kept connections, each its next request when the last is
  answered. CPU is the kernel's account of nginx and all processes of the app; PostgreSQL's stands beside it.
  A ratio is the median of the turns' ratios.
- p50 and p99: at 70 % of what that very contestant answered a second in the closed loop of that run. Requests
  come by chance (a Poisson process), and a wait counts from when the request was due.
- memory: proportional (PSS) of all processes of the app, alone, after its views were asked.

Both virtual environments are of the Python that ``.venv`` has. One that was built without profile-guided
optimisation (pyenv's default; Debian's is built with it) makes what is written in Python slower, and what is
written in C or Rust not.

The view that waits for a peer is asked by 500 connections at once.

Ctrl-C ends it with the report of what has been measured by then.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from target_host import controller

from .. import FLASK_OPS, machine, work_folder
from . import plot, report
from .contestants import CONTESTANTS, PEERS_LOCK, PEERS_VENV
from .rounds import Bench, Measured, Memory, Plan, Waits
from .views import VIEWS

DEFAULT = Plan()
QUICK = {
    "runs": 1,
    "turns": 2,
    "closed_seconds": 0.2,
    "open_seconds": 0.3,
    "slow_each": 1,
    "slow_seconds": 4.0,
}
PACKAGES = (
    "fastapi",
    "starlette",
    "pydantic",
    "uvicorn",
    "uvloop",
    "httptools",
    "asyncpg",
    "granian",
    "aiohttp",
)


def options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="bench.throughput", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=_names(VIEWS), default=list(VIEWS), help=",".join(VIEWS))
    parser.add_argument(
        "--contestants", type=_names(CONTESTANTS), default=list(CONTESTANTS), help=",".join(CONTESTANTS)
    )
    parser.add_argument("--runs", type=int, default=DEFAULT.runs, help="how often all are started anew")
    parser.add_argument("--turns", type=int, default=DEFAULT.turns, help="measurements of each in a run")
    parser.add_argument("--workers", type=int, default=DEFAULT.workers, help="processes of each server")
    parser.add_argument("--closed-seconds", type=float, default=DEFAULT.closed_seconds, help="about, of each")
    parser.add_argument("--open-seconds", type=float, default=DEFAULT.open_seconds, help="of each")
    parser.add_argument("--source", type=Path, default=FLASK_OPS, help="folder with flask_ops in it")
    parser.add_argument("--quick", action="store_true", help=f"only to see that it runs: {QUICK}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all runs there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw there, as SVG")
    parser.add_argument("--read", type=Path, metavar="FILE", help="measure nothing: take what --json wrote")
    return parser.parse_args()


def _names(known: dict[str, object]) -> Any:
    def names(words: str) -> list[str]:
        found = words.split(",")
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(known)}")
        return [name for name in known if name in found]

    return names


def main() -> int:
    """Measure, print, and return the exit status."""
    chosen = options()
    if chosen.read:
        facts = json.loads(chosen.read.read_text())
    else:
        if lacking := machine.missing():
            print("bench.throughput: first", "; ".join(lacking), file=sys.stderr)
            return 1
        facts = measure(chosen)
    if chosen.json:
        chosen.json.write_text(json.dumps(facts, indent=1) + "\n")
    found = report.Found(
        [Measured(**one) for one in facts["measured"]],
        [Waits(**one) for one in facts["waits"]],
        [Memory(**one) for one in facts["memory"]],
    )
    if chosen.plot:
        chosen.plot.write_text(plot.drawn(found))
    print(words(facts, found))
    return 0


def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Return everything that was measured, and on what."""
    controller.venv(PEERS_VENV, [PEERS_LOCK], log=lambda line: print(line, file=sys.stderr))
    given = {one.name: getattr(chosen, one.name) for one in fields(Plan) if hasattr(chosen, one.name)}
    plan = Plan(**given | (QUICK if chosen.quick else {}))
    busy = machine.load_average()
    contestants = [CONTESTANTS[name] for name in chosen.contestants]
    with work_folder() as folder:
        bench = Bench(plan, contestants, [VIEWS[name] for name in chosen.rows], folder)
        try:
            bench.run(chosen.source)
        except KeyboardInterrupt:
            if not bench.measured:
                raise
            print("stopped: what follows is what had been measured by then", file=sys.stderr)
    return {
        "machine": machine.describe(),
        "versions": machine.versions() | machine.packages(PEERS_VENV / "bin/python", PACKAGES),
        "plan": asdict(plan),
        "load_before": busy,
        "measured": [asdict(one) for one in bench.measured],
        "waits": [asdict(one) for one in bench.waits],
        "memory": [asdict(one) for one in bench.memory],
    }


def words(facts: dict[str, Any], found: report.Found) -> str:
    """Return the report for people, in Markdown."""
    lines = [
        f"{title}: {', '.join(f'{key} {value}' for key, value in facts[title].items())}\n"
        for title in ("machine", "versions", "plan")
    ]
    if facts["load_before"] > machine.QUIET:
        lines.append(
            f"THE MACHINE WAS BUSY (load {facts['load_before']:.1f}): ratios are as good as their intervals\n"
        )
    held = report.held(report.verdicts(found))
    return "\n".join([*lines, report.tables(found), "", held])


if __name__ == "__main__":
    sys.exit(main())
