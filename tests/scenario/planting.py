"""Plant secrets where apps meet them, and look for them where none may be."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping

from further_apps import App

INGEST_PORT = 9099
"""Where the Sentry of tests listens, on the target's loopback."""
# Runs on the host, as root, on Debian's own Python; reads what to look for from its standard input, so that
# no command line holds it.
SEARCH = r"""
import glob, json, os, subprocess, sys

asked = json.load(sys.stdin)
found = []

def search(place, data):
    found.extend([place, name] for name, text in asked["planted"].items() if text.encode() in data)

def from_file(path):
    try:
        with open(path, "rb") as stream:
            search(path, stream.read())
    except OSError:
        pass

for root in asked["roots"]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in asked["left_out"]]
        for path in (os.path.join(folder, name) for name in files):
            if os.path.isfile(path) and not os.path.islink(path):
                from_file(path)
for path in glob.glob("/proc/[0-9]*/environ") + glob.glob("/proc/[0-9]*/cmdline"):
    from_file(path)
for command in asked["commands"]:
    search(command, subprocess.run(command, shell=True, stdout=subprocess.PIPE, check=True).stdout)
json.dump(found, sys.stdout)
"""
CONTROL = "control"
"""The release's id: it stands wherever is searched, so that a search that finds nothing means something."""
# Everything that may change on a host, and that people collect, back up or look at.
ROOTS = ["/etc", "/srv", "/run", "/var/log", "/var/lib/nginx", "/var/lib/systemd", "/var/backups", "/var/tmp"]
ROOTS += ["/tmp", "/root", "/home", "/usr/local"]


def token() -> str:
    """Return a secret that looks like one, and like nothing else on the host."""
    return f"pl4nt-{secrets.token_hex(12)}"


def search(app: App, planted: Mapping[str, str], left_out: Iterable[str] = ()) -> list[str]:
    """Look all over the app's host for what was planted; return where each was found.

    :param planted: texts by what they are.
    :param left_out: folders that a test looks at itself.
    """
    asked = {
        "planted": {**planted, CONTROL: app.active},
        "roots": ROOTS,
        # Where secrets belong: those on disk are encrypted, and searched like everything else.
        "left_out": ["/run/credentials", *left_out],
        "commands": [
            # Every field of every entry, not the words alone.
            "journalctl --sync; journalctl --no-pager --all --output=export",
            f"systemctl show --all --no-pager '{app.name}-*'",
        ],
    }
    said = app.site.sudo(f"python3 -c '{SEARCH}'", stdin=json.dumps(asked).encode(), timeout_seconds=120)
    found = json.loads(said)
    controlled = " ".join(place for place, name in found if name == CONTROL)
    for place in ("journalctl", "systemctl show", "/environ", "/cmdline", "/srv/", "/run/", "/var/log/"):
        assert place in controlled, f"the search misses what stands in {place}: {controlled}"
    return sorted(f"{name}: in {place}" for place, name in found if name != CONTROL)
