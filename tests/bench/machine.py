"""Say what was measured on what."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import APP_PYTHON, gunicorn, postgresql

PACKAGES = ("flask", "gunicorn", "gevent", "greenlet", "sqlalchemy", "psycopg", "structlog")
PACKAGES += ("prometheus-client", "prometheus-flask-exporter", "sentry-sdk")
_ASK = """
import json, platform, sys
from importlib import metadata
versions = {name: metadata.version(name) for name in sys.argv[1:]}
print(json.dumps({"python": platform.python_version(), **versions}))
"""


#: A load average up to which the machine counts as quiet.
QUIET = 0.5


def missing(**programs: object) -> list[str]:
    """Return what must be installed first.

    :param programs: of a bench alone, by their packages: what was found of each.
    """
    wanted = {"nginx": shutil.which("nginx"), "nghttp2-client": shutil.which("h2load")}
    wanted |= {"postgresql": postgresql.programs(), **programs}
    return [f"apt-get install {name}" for name, found in wanted.items() if not found] + (
        [] if APP_PYTHON.exists() else ["make test-fast (for the app venv)"]
    )


def load_average() -> float:
    """Return the load of the last minute; above 0.5 somebody else is at work as well."""
    return os.getloadavg()[0]


def describe() -> dict[str, str | int]:
    """Return the machine: processor, cores, memory and kernel."""
    processors = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line for line in processors if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": models[0].split(":")[1].strip() if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Return the versions of everything that takes part."""
    return {
        **packages(APP_PYTHON, PACKAGES),
        "nginx": _first_line(["nginx", "-v"]).split("/")[-1],
        "postgresql": _first_line([str(postgresql.programs() / "postgres"), "-V"]).split()[2],
        "h2load": _first_line(["h2load", "--version"]).split("/")[-1],
    }


def packages(python: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the versions of a Python and of packages that it has."""
    return json.loads(_first_line([str(python), "-c", _ASK, *names], whole=True))


def _first_line(command: list[str], *, whole: bool = False) -> str:
    done = subprocess.run(
        command,
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=gunicorn.environment(),
        timeout=30,
    )
    return done.stdout if whole else done.stdout.splitlines()[0]
