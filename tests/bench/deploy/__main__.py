"""Measure deploys and rollbacks of this project beside the same app deployed in Ansistrano's steps.

``make bench-deploy`` runs it whole, with nothing else running on the machine; ``make bench-deploy
ARGS=--quick`` takes a look. It needs rsync and what local hosts need (``make up`` installs that), makes the
hosts it deploys to and removes them at the end.

A round is a deploy of one changed line by each kind, a deploy of what runs, a rollback by each kind and one
by releasectl alone; which kind begins changes from round to round. After each, every host must show the line
that it should. What visitors lose is counted in rounds of their own: a load would share the processor with
what is timed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import machine, work_folder
from .hosts import MOST
from .kinds import Classic, Ours
from .report import ABOUT, profile, results, table, verdict
from .rounds import Bench, Plan

QUICK = {"rounds": 1, "loaded": 1}
NEEDS = {"rsync": "rsync", "ssh": "openssh-client", "podman": "podman"}


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="bench.deploy", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--hosts", type=int, default=1, choices=range(1, MOST + 1), metavar="N", help="deployed to"
    )
    parser.add_argument("--debian", type=int, default=13, choices=(12, 13), help="their release")
    parser.add_argument("--rounds", type=int, default=5, help="of each action, without a load")
    parser.add_argument("--loaded", type=int, default=3, help="rounds of deploys under a load")
    parser.add_argument("--rate", type=float, default=30, help="its requests a second")
    parser.add_argument("--profile", action="store_true", help="where a deploy's seconds go")
    parser.add_argument("--quick", action="store_true", help=f"only to see that it runs: {QUICK}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there too")
    parser.add_argument("--keep-hosts", action="store_true", help="leave the hosts up, to look at them")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        vars(chosen).update(QUICK)
    return chosen


def missing() -> list[str]:
    """Return what must be installed first."""
    return [f"apt-get install {package}" for program, package in NEEDS.items() if not shutil.which(program)]


def main() -> int:
    """Measure, print, and return the exit status."""
    chosen = options()
    if lacking := missing():
        print("bench.deploy: first", "; ".join(lacking), file=sys.stderr)
        return 1
    plan = Plan(chosen.hosts, chosen.debian, chosen.rounds, chosen.loaded, chosen.rate)
    busy = machine.load_average()
    with work_folder() as folder:
        bench = Bench(plan, folder, keep=chosen.keep_hosts)
        bench.run(profile=chosen.profile)
    facts = {
        "machine": machine.describe(),
        "versions": {"ansible-core": version("ansible-core"), **bench.versions},
        "plan": asdict(plan),
        "load_before": busy,
        "results": results(bench),
        "profile": bench.profile,
    }
    if chosen.json:
        chosen.json.write_text(json.dumps(facts, indent=1) + "\n")
    print(words(facts))
    return 0


def words(facts: dict[str, Any]) -> str:
    """Return the report for people."""
    lines = [ABOUT.format(ours=Ours.title, classic=Classic.title), ""]
    lines += [
        f"{title}: {', '.join(f'{key} {value}' for key, value in facts[title].items())}"
        for title in ("machine", "versions", "plan")
    ]
    lines.append(f"load average before: {facts['load_before']:.2f}")
    quiet = facts["load_before"] <= machine.QUIET
    if not quiet:
        lines.append("THE MACHINE WAS BUSY: seconds are too long, and the kinds compare only roughly")
    rows = facts["results"]
    lines += ["", table(rows), "", verdict(rows, facts["plan"]["hosts"], quiet=quiet)]
    return "\n".join(lines + ([profile(facts["profile"])] if facts["profile"] else []))


if __name__ == "__main__":
    sys.exit(main())
