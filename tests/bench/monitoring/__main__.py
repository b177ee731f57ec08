"""Measure what watching costs a local host that watches itself: memory, CPU, series.

``make bench-monitoring`` asks the host of ``make up`` for a minute. Memory is PSS, a page that n processes
share counted as 1/n of it, and USS, what a process has alone (``/proc/<pid>/smaps_rollup``, proc(5)). CPU is
user and system time of each process by ``/proc/<pid>/stat``, in per cent of one core. What nginx and the app
spend on being asked is theirs: it shows as the time a scrape takes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from target_host import api
from target_host.shell import PROJECT_DIR, TargetHostError

from .. import machine

UNITS = ("prometheus", "prometheus-alertmanager", "prometheus-blackbox-exporter", "prometheus-node-exporter")
UNITS += ("prometheus-nginx-exporter", "prometheus-postgres-exporter", "prometheus-redis-exporter")
QUERIES = {
    "series": "prometheus_tsdb_head_series",
    "samples_a_second": "rate(prometheus_tsdb_head_samples_appended_total[1m])",
    "series_of_a_job": "sum by (job) (scrape_samples_post_metric_relabeling)",
    "scrape_seconds_of_a_job": "max by (job) (scrape_duration_seconds)",
}
# Runs on the host, as root, on Debian's own Python; told what to measure by its standard input.
PROGRAM = r"""
import json, os, subprocess, sys, time, urllib.parse, urllib.request

asked = json.loads(sys.argv[1])
pids = {}
for unit in asked["units"]:
    words = ["systemctl", "show", "--value", "--property=MainPID", unit]
    pids[unit] = int(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
    if not pids[unit]:
        sys.exit(f"{unit} does not run: is the host in the group monitoring?")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        user, system = stat.read().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid):
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in rollup.readlines()[1:]}
    return found["Pss"], found["Private_Clean"] + found["Private_Dirty"]


def query(expression):
    url = "http://127.0.0.1:9090/api/v1/query?query=" + urllib.parse.quote(expression)
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["data"]["result"]


before, began = {unit: cpu_seconds(pid) for unit, pid in pids.items()}, time.monotonic()
time.sleep(asked["seconds"])
seconds = time.monotonic() - began
units = []
for unit, pid in pids.items():
    pss, uss = memory_mib(pid)
    units.append({"unit": unit, "pss_mib": pss, "uss_mib": uss,
                  "cpu_percent": 100 * (cpu_seconds(pid) - before[unit]) / seconds})
told = {name: [[one["metric"].get("job", ""), float(one["value"][1])] for one in query(expression)]
        for name, expression in asked["queries"].items()}
print(json.dumps({"units": units, "prometheus": told, "seconds": seconds}))
"""


def measure(inventory: Path, host: str | None, seconds: float) -> dict[str, Any]:
    """Measure on a running host.

    :param inventory: the folder of a local inventory.
    :param host: one of its hosts, the first where none is named.
    :param seconds: how long CPU is counted.
    :raises TargetHostError: when the host is not up, or does not watch itself.
    """
    asked = {"units": UNITS, "queries": QUERIES, "seconds": seconds}
    command = [*api.ssh_command(api.read(inventory), host), "sudo", "python3", "-", f"'{json.dumps(asked)}'"]
    done = subprocess.run(
        command,
        cwd=PROJECT_DIR,
        input=PROGRAM,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    if done.returncode != 0:
        raise TargetHostError(f"{inventory}: {done.stderr.strip()}\nnext: make up")
    return json.loads(done.stdout)


def options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="bench.monitoring", description=__doc__.splitlines()[0])
    parser.add_argument("--inventory", type=Path, default=PROJECT_DIR / "inventory/local")
    parser.add_argument("--host")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser.parse_args()


def table(found: dict[str, Any]) -> str:
    """Return it for a person."""
    lines = [f"{'':30}{'PSS MiB':>9}{'USS MiB':>9}{'CPU %':>8}"]
    sums = {"unit": "all"} | {
        name: sum(one[name] for one in found["units"]) for name in ("pss_mib", "uss_mib", "cpu_percent")
    }
    for one in [*found["units"], sums]:
        lines.append(f"{one['unit']:30}{one['pss_mib']:9.1f}{one['uss_mib']:9.1f}{one['cpu_percent']:8.2f}")
    told = found["prometheus"]
    lines += ["", f"{'':30}{'series':>9}{'scrape ms':>11}"]
    took = dict(told["scrape_seconds_of_a_job"])
    for job, series in sorted(told["series_of_a_job"]):
        lines.append(f"{job:30}{series:9.0f}{1000 * took[job]:11.1f}")
    lines.append(f"{'all, with recordings':30}{told['series'][0][1]:9.0f}")
    lines.append(f"{told['samples_a_second'][0][1]:.0f} samples a second, over {found['seconds']:.0f} s")
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table."""
    chosen = options()
    try:
        found = measure(chosen.inventory, chosen.host, chosen.seconds)
    except TargetHostError as error:
        sys.exit(str(error))
    print(json.dumps({"machine": machine.describe(), **found}, indent=1) if chosen.json else table(found))


if __name__ == "__main__":
    main()
