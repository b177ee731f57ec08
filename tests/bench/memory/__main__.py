"""Measure the memory of four workers of the sample app after some thousand requests, preloaded or not.

``PYTHONPATH=tests .venv/bin/python -m bench.memory`` takes about a minute. PSS counts a page that n processes
share as 1/n of it in each; USS is what a process has alone, and what another worker costs
(``/proc/<pid>/smaps_rollup``, proc(5)). Without preload every worker loads the app for itself. With it the
arbiter does, and each worker copies the pages it writes to: reference counts, and what the collector marks
unless the arbiter froze it (gc.freeze in Python's manual).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from .. import APP_PYTHON, FLASK_OPS, gunicorn, load, machine, nginx, postgresql, work_folder
from ..processes import family, memory_mib

VARIANTS = {
    "each worker loads the app": ("0", "off"),
    "preload": ("1", "off"),
    "preload, gc.freeze": ("1", "freeze"),
    "preload, gc.collect, gc.freeze": ("1", "collect"),
    "preload, gc.disable while loading, gc.freeze": ("1", "disable"),
}
BURSTS = 8
# Above nginx_upstream_keepalive_timeout.
IDLE_SECONDS = 2.5
# What anybody may see; the last one asks the database.
PATHS = ["/auth/sign-in", "/api/docs", "/api/v1/openapi.json", "/readyz"]


def environment(database: str, folder: Path) -> dict[str, str]:
    """Return the sample app's environment: as for a developer, since in production it wants Redis too."""
    return {
        "APP_ENV": "development",
        "APP_WSGI": "inbox.wsgi:app",
        "DATABASE_URL": database,
        "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics"),
    }


def measure(name: str, options: argparse.Namespace, database: str, folder: Path) -> dict[str, object]:
    """Serve, send requests, and return the memory of the arbiter and its workers in MiB."""
    preload, freeze = VARIANTS[name]
    env = environment(database, folder) | {
        "GUNICORN_PRELOAD": preload,
        "GUNICORN_WORKERS": str(options.workers),
        "BENCH_FREEZE": freeze,
    }
    with ExitStack() as stack:
        ports, _ = stack.enter_context(
            nginx.serve(folder / "nginx", {"inbox": nginx.Site(folder / "inbox.sock")})
        )
        server = gunicorn.serve(folder / "inbox.sock", "memory_conf", options.source, env)
        arbiter = stack.enter_context(server)
        for _ in range(BURSTS):
            requests = options.requests // BURSTS
            load.send(ports["inbox"], PATHS, requests=requests, connections=32, folder=folder)
            # nginx closes its idle connections meanwhile: the next burst finds other workers.
            time.sleep(IDLE_SECONDS)
        processes = [memory_mib(pid) for pid in family(arbiter)]
    workers = processes[1:]
    return {
        "variant": name,
        "all_pss_mib": round(sum(each["Pss"] for each in processes), 1),
        "arbiter_uss_mib": round(processes[0]["Uss"], 1),
        "worker_uss_mib": [round(each["Uss"], 1) for each in workers],
        "worker_pss_mib": [round(each["Pss"], 1) for each in workers],
        "worker_rss_mib": [round(each["Rss"], 1) for each in workers],
    }


def migrate(database: str, folder: Path, source: Path) -> None:
    """Make the sample app's tables."""
    env = gunicorn.environment(source, **environment(database, folder))
    command = [APP_PYTHON, "-m", "flask", "--app", "inbox", "db", "upgrade"]
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, timeout=60)


def options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="bench.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--source", type=Path, default=FLASK_OPS, help="folder with flask_ops in it")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser.parse_args()


def main() -> None:
    """Measure each variant and print the table."""
    chosen = options()
    with work_folder() as folder:
        chosen.source = gunicorn.snapshot(chosen.source, folder / "source")
        with postgresql.serve(folder / "postgresql", 20 + 5 * chosen.workers) as (database, _):
            migrate(database, folder, chosen.source)
            rows = []
            for number, variant in enumerate(VARIANTS):
                own = folder / str(number)
                own.mkdir()
                rows.append(measure(variant, chosen, database, own))
    if chosen.json:
        facts = {"machine": machine.describe(), "versions": machine.versions(), "requests": chosen.requests}
        print(json.dumps({**facts, "results": rows}, indent=1))
        return
    print(f"{chosen.workers} workers after {chosen.requests} requests, MiB")
    print(f"{'':46}{'all, PSS':>9}{'arbiter, USS':>13}  workers, USS")
    for row in rows:
        print(
            f"{row['variant']:46}{row['all_pss_mib']:9}{row['arbiter_uss_mib']:13}  {row['worker_uss_mib']}"
        )


if __name__ == "__main__":
    sys.exit(main())
