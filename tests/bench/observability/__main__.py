"""Measure what each part of flask_ops costs a request: CPU as a ratio to none of it, and p99.

``make bench`` runs it whole, with nothing else running on the machine; ``make bench ARGS=--quick`` takes a
look. It needs nginx, nghttp2-client (h2load) and postgresql from apt. Everything runs as processes of its own
in a temporary folder, on unix sockets and the loopback, and is stopped at the end.

One gunicorn for each variant, all serving the same unmodified app, stands behind one nginx with the project's
own files (access line in JSON, request id, upstream keep-alive; without TLS, and the client asks for no
compression: both would only make the ratios smaller) and before one PostgreSQL. They are asked in turn, a
fixed number of requests each, over kept connections, the order turning from round to round. CPU is the
kernel's account of gunicorn's arbiter and workers plus nginx; PostgreSQL's is shown beside it. The ratio is
the median of the rounds' ratios to the bare server in the same round, with its interval by the bootstrap.
After some rounds all servers are started anew, because a process keeps its memory layout and hash seed for
life, and with them a per cent or two of speed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from .. import FLASK_OPS, machine, work_folder
from .report import results, table, verdict
from .rounds import VIEWS, Bench, Plan
from .variants import BARE, VARIANTS

REQUESTS = {"db": 400, "logged": 400, "json": 1500}
QUICK = {"epochs": 1, "rounds": 3, "scale": 0.25}


def options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="bench.observability", description=__doc__.splitlines()[0])
    names = [variant.name for variant in VARIANTS]
    parser.add_argument("--epochs", type=int, default=6, help="how often all servers are started anew")
    parser.add_argument("--rounds", type=int, default=20, help="measurements of each server in an epoch")
    parser.add_argument("--scale", type=float, default=1.0, help=f"factor on the requests, {REQUESTS}")
    parser.add_argument("--views", nargs="+", choices=VIEWS, default=["db", "json"])
    parser.add_argument("--variants", nargs="+", choices=names, default=names)
    parser.add_argument("--workers", type=int, default=max(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--connections", type=int, default=4, help="requests under way at once")
    parser.add_argument("--source", type=Path, default=FLASK_OPS, help="folder with flask_ops in it")
    parser.add_argument("--quick", action="store_true", help=f"only to see that it runs: {QUICK}")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    chosen = parser.parse_args()
    if chosen.quick:
        vars(chosen).update(QUICK)
    return chosen


def main() -> int:
    """Measure, print, and return the exit status."""
    chosen = options()
    if lacking := machine.missing():
        print("bench.observability: first", "; ".join(lacking), file=sys.stderr)
        return 1
    requests = {view: max(20, int(REQUESTS[view] * chosen.scale)) for view in chosen.views}
    plan = Plan(chosen.epochs, chosen.rounds, requests, chosen.workers, chosen.connections)
    variants = [variant for variant in VARIANTS if variant.name in {BARE, *chosen.variants}]
    busy = machine.load_average()
    with work_folder() as folder:
        bench = Bench(plan, variants, chosen.source, folder)
        bench.run()
    rows = results(bench)
    facts = {
        "machine": machine.describe(),
        "versions": machine.versions(),
        "plan": asdict(plan),
        "load_before": busy,
        "sentry_envelopes": bench.envelopes,
    }
    print(json.dumps({**facts, "results": rows}, indent=1) if chosen.json else words(facts, rows))
    return 0


def words(facts: dict, rows: list[dict]) -> str:
    """Return the report for people."""
    lines = [
        f"{title}: {', '.join(f'{key} {value}' for key, value in facts[title].items())}"
        for title in ("machine", "versions", "plan")
    ]
    seen = f"{facts['load_before']:.2f}, Sentry envelopes: {facts['sentry_envelopes']}"
    lines.append(f"load average before: {seen}")
    quiet = facts["load_before"] <= machine.QUIET
    if not quiet:
        lines.append("THE MACHINE WAS BUSY: times are too long, and ratios are as good as their intervals")
    return "\n".join([*lines, table(rows), "", verdict(rows, quiet=quiet)])


sys.exit(main())
