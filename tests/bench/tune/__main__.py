"""Find the worker class and the number of workers that serve your app best, on the machine it is to run on.

``make bench-tune ARGS='--app shop:create_app() --python /srv/shop/current/venv/bin/python --path /orders'``
starts the app under each setting, several times in turn, and asks it over the loopback as nginx would: kept
connections, each its next request when the last is answered. Nothing goes through nginx, and the app that
serves your visitors is not touched; but the load is real, on the machine and on the database, so take a host
that has none of them yet. What is asked for by GET should be what visitors ask for most; every answer must
be 200.

It needs nghttp2-client (h2load) from apt, and an app whose environment has flask_ops. ``--env-file`` is what
systemd gives the app (``EnvironmentFile=``); a secret belongs there or into ``CREDENTIALS_DIRECTORY``, never
on the command line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from .. import APP_PYTHON, machine, work_folder
from .choice import summaries, words
from .measure import AppProblem, Asked, Tuning, environment_of, settings

# As nginx says of a visitor over TLS.
HEADERS = ["X-Forwarded-Proto: https", "X-Forwarded-For: 127.0.0.1"]


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return what the command line says."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(prog="bench.tune", description=__doc__.splitlines()[0])
    parser.add_argument("--app", required=True, help="as APP_WSGI: module:attribute, module:factory()")
    parser.add_argument("--python", type=Path, default=APP_PYTHON, help="of the app's virtual environment")
    parser.add_argument("--folder", type=Path, default=Path(), help="that the app is imported from")
    parser.add_argument("--path", action="append", help="asked for; again for more (/)")
    parser.add_argument("--header", action="append", default=[], help="of each request, as 'Name: value'")
    parser.add_argument("--env-file", type=Path, help="the app's environment")
    parser.add_argument("--classes", default="flask_ops,gthread", help="worker classes (%(default)s)")
    parser.add_argument("--workers", default=f"{cores},{2 * cores}", help="how many (%(default)s)")
    parser.add_argument("--connections", type=int, default=32, help="requests at once (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="starts of each setting (%(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of load each time, about (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every turn there")
    chosen = parser.parse_args(arguments)
    counts = chosen.workers.split(",")
    if not all(count.isdecimal() and int(count) for count in counts):
        parser.error(f"--workers {chosen.workers}: numbers above 0, as 1,2,4")
    chosen.workers = [int(count) for count in counts]
    if min(chosen.connections, chosen.rounds, chosen.seconds) <= 0:
        parser.error("--connections, --rounds and --seconds must be above 0")
    return chosen


def main() -> int:
    """Measure, print, and return the exit status."""
    chosen = options()
    lacking = [] if shutil.which("h2load") else ["apt-get install nghttp2-client"]
    if not chosen.python.exists():
        lacking.append(f"--python: the app's virtual environment, {chosen.python} is not there")
    if lacking:
        print("bench.tune: first", "; ".join(lacking), file=sys.stderr)
        return 1
    try:
        given = environment_of(chosen.env_file) if chosen.env_file else {}
        paths, headers = chosen.path or ["/"], [*HEADERS, *chosen.header]
        asked = Asked(
            chosen.app, chosen.python, chosen.folder.resolve(), given, paths, headers, chosen.connections
        )
        with work_folder() as folder:
            tuning = Tuning(asked, chosen.seconds, folder)
            tuning.run(settings(chosen.classes.split(","), chosen.workers), chosen.rounds, _say)
    except (AppProblem, OSError) as error:
        print(f"bench.tune: {error}", file=sys.stderr)
        return 1
    if chosen.json:
        turns = [asdict(turn) for turn in tuning.turns]
        chosen.json.write_text(json.dumps({"machine": machine.describe(), "turns": turns}, indent=1) + "\n")
    print(words(summaries(tuning.turns)))
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
