"""What holds for an app that has never heard of this project, whichever it is."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

from further_apps import App
from target_host.shell import PROJECT_DIR

CACHE_DIR = PROJECT_DIR / ".cache/build"
FIELDS = {"timestamp", "level", "event", "logger", "request_id", "release", "service"}
"""What every line of an app's journal holds."""
NGINX_FIELDS = {
    "request_id",
    "client",
    "path",
    "status",
    "upstream_response_time",
    "upstream_status",
    "release",
}
# What an installer writes about its own doing, beside the wheel's files (Recording installed projects, PyPA).
INSTALLERS_OWN = {"RECORD", "INSTALLER", "REQUESTED", "uv_cache.json"}
# Runs on the host, as root, on Debian's own Python; takes the names of the wheel's top folders.
HASH_FILES = """
import hashlib, json, pathlib, sys
(site,) = pathlib.Path(sys.argv[1]).glob("lib/python3.*/site-packages")
files = [path for top in sys.argv[2:] for path in [site / top, *(site / top).rglob("*")] if path.is_file()]
found = {str(path.relative_to(site)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
json.dump({name: digest for name, digest in found.items() if "__pycache__" not in name}, sys.stdout)
"""


def package_differences(app: App, package: str, version: str) -> list[str]:
    """Return in what the installed package is unlike the wheel the index gave: one line a file."""
    wheel = wheel_of(package, version)
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        given = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in names}
    tops = sorted({name.partition("/")[0] for name in given})
    venv = f"/srv/{app.name}/releases/{app.active}/venv"
    installed = json.loads(
        app.site.sudo(f"python3 - {venv} {' '.join(tops)}", stdin=HASH_FILES.encode(), timeout_seconds=60)
    )
    own = {f"{package}-{version}.dist-info/{name}" for name in INSTALLERS_OWN}
    lines = [
        f"{'changed' if name in installed else 'missing'}: {name}"
        for name, digest in given.items()
        if installed.get(name) != digest and name not in own
    ]
    return lines + [f"not in the wheel: {name}" for name in installed.keys() - given.keys() - own]


def wheel_of(package: str, version: str) -> Path:
    """Return the wheel in the controller's cache."""
    found = sorted(CACHE_DIR.rglob(f"{package}-{version}-*.whl"))
    assert found, f"no wheel of {package} {version} below {CACHE_DIR}"
    return found[0]


def is_locked(app: App, wheel: Path) -> bool:
    """Say whether a wheel is, by its hash, the one the release's lock names."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return digest in app.site.sudo(f"cat /srv/{app.name}/deps/*/requirements.txt")


def unlike_json_lines(entries: list[dict]) -> list[str]:
    """Return what in an app's journal is not one JSON object with the required fields."""
    wrong = []
    for entry in entries:
        text = entry["MESSAGE"]
        # journald's own word for a line it had to part.
        if entry.get("_LINE_BREAK") in ("line-max", "nul"):
            wrong.append(f"parted by journald ({entry['_LINE_BREAK']}): {str(text)[:200]}")
            continue
        try:
            value = json.loads(text)
            lacks = FIELDS - value.keys()
        except (TypeError, ValueError, AttributeError):
            wrong.append(f"no JSON object: {str(text)[:200]}")
        else:
            wrong += [f"lacks {sorted(lacks)}: {text[:200]}"] if lacks else []
    return wrong


def series(metrics: str, name: str) -> list[str]:
    """Return the lines of one metric."""
    return [line for line in metrics.splitlines() if line.startswith((f"{name}{{", f"{name} "))]
