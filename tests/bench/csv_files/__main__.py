"""Measure how fast the sample app imports and exports a CSV file on PostgreSQL, and its memory meanwhile.

``PYTHONPATH=tests .venv/bin/python -m bench.csv_files`` takes about a minute. The file has ``--mib`` MiB of
messages of about 1 KiB, and is imported in pieces as a worker does it. Memory is the most that the process
ever had resident (``ru_maxrss``, getrusage(2)), next to what it had before the first piece: a file ten times
as large must not have more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from .. import APP_PYTHON, SERVED_DIR, gunicorn, machine, postgresql, work_folder


def measure(database: str, folder: Path, mib: int) -> dict[str, float]:
    """Import a file and export it again in a process of the app's; return what that took.

    :param mib: how large the file is.
    """
    (folder / "app_secret_key").write_bytes(os.urandom(20).hex().encode())
    env = gunicorn.environment(
        APP_ENV="production",
        CREDENTIALS_DIRECTORY=str(folder),
        DATABASE_URL=database,
        # Nothing is sent there: the bench reads piece by piece itself.
        REDIS_URL=f"unix://{folder}/redis.sock",
        STORAGE_URL=f"file://{folder}/files",
    )
    command = [APP_PYTHON, SERVED_DIR / "csv_file.py", str(mib)]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=1800)
    return json.loads(done.stdout.splitlines()[-1])


def options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="bench.csv_files", description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=100)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    chosen = options()
    with work_folder() as folder, postgresql.serve(folder / "postgresql", 20) as (database, _):
        found = measure(database, folder, chosen.mib)
    if chosen.json:
        facts = {"machine": machine.describe(), "versions": machine.versions()}
        print(json.dumps({**facts, **found}, indent=1))
        return
    print(f"{found['mib']:.1f} MiB, {found['messages']:,} messages, PostgreSQL on the same machine")
    print(f"import  {found['import_mib_per_second']:6.1f} MiB/s in {found['pieces']} pieces")
    print(f"export  {found['export_mib_per_second']:6.1f} MiB/s")
    print(
        f"resident {found['rss_before_mib']:.0f} MiB before, at most {found['rss_import_mib']:.0f} MiB "
        f"while importing, {found['rss_export_mib']:.0f} MiB while exporting"
    )


if __name__ == "__main__":
    sys.exit(main())
