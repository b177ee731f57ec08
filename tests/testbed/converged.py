"""Provisioned hosts, kept as images named by the digest of everything that made them.

A host is provisioned from plain Debian once; while nothing it was made of changes, later sessions and further
hosts start from the frozen one in seconds. Frozen with it, on the controller, is what its inventory made
there: the certificate authority and the secrets. With new ones the first run on such a host would rightly
change its certificate and its credentials, and "a second run changes nothing" could not be shown.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from target_host import image
from target_host.shell import PROJECT_DIR, as_root, run, turn

from testbed import durations, sites
from testbed.sites import Declaration, Site

REPOSITORY = f"{image.REPOSITORY}-converged"
STATE_DIR = PROJECT_DIR / ".cache/converged"
STATE_LABEL = "converged.state_dir"
# Two checkouts on one machine make images of their own: the secrets in them differ.
CHECKOUT = hashlib.sha256(str(PROJECT_DIR).encode()).hexdigest()[:6]
# What a run of site.yml reads, besides the inventory, as git names it.
SOURCES = (
    "ansible.cfg",
    "app_skeleton",
    ":!app_skeleton/*/tests",
    "nginx",
    "playbooks",
    "plugins",
    "requirements/build.txt",
    "requirements/controller.txt",
    "roles",
    "systemd",
)
KEPT = ("ca", "secrets")
"""Folders of a host's state that its disk agrees with; its SSH keys are made for each host."""


def start(declaration: Declaration, say: Callable[[str], None]) -> Site:
    """Return a provisioned host: from its image, or from plain Debian by site.yml.

    A host that has just been provisioned is handed out as it runs, not restarted: what a run left undone in a
    running process shows there, and a restart would hide it.
    """
    tag = f"{declaration.debian}-{CHECKOUT}-{digest(declaration)}"
    # The second host of a release waits for the first one's image.
    with turn(f"converged-{declaration.debian}"):
        if is_kept(tag):
            shutil.copytree(STATE_DIR / tag, declaration.state_dir, dirs_exist_ok=True)
            (declaration.state_dir / "image").unlink()
            with durations.measured(f"{declaration.name} start from its converged image"):
                return sites.start(declaration, say, image=f"{REPOSITORY}:{tag}")
        with durations.measured(f"{declaration.name} start from plain Debian"):
            site = sites.start(declaration, say)
        play = site.play("site", label="site.yml on a fresh host").ok()
        durations.record(f"{site.name} site.yml on a fresh host", play.seconds)
        with durations.measured(f"{site.name} keep it as an image"):
            keep(site, tag)
        return site


def digest(declaration: Declaration) -> str:
    """Return 12 hex digits that change with anything a provisioned host is made from."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *SOURCES],
        cwd=PROJECT_DIR,
        capture_output=True,
        check=True,
        timeout=30,
    ).stdout.decode()
    paths = sorted(PROJECT_DIR / name for name in listing.split("\0") if name)
    made_from = {
        "image": image.base_image(declaration.debian),
        "vars": declaration.group_vars,
        "files": {
            str(path.relative_to(PROJECT_DIR)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in paths
            if path.is_file()
        },
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]


def is_kept(tag: str) -> bool:
    """Say whether podman has the image, and this checkout the state that belongs to it."""
    noted = STATE_DIR / tag / "image"
    return noted.exists() and noted.read_text() == _image_id(tag)


def keep(site: Site, tag: str) -> None:
    """Freeze a host as an image, with its state, and drop those that no longer serve anybody.

    The host is held for a moment, not shut down: PostgreSQL and Redis come back as after a loss of power.
    """
    state = STATE_DIR / tag
    shutil.rmtree(state, ignore_errors=True)
    for folder in (STATE_DIR, state):
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    label = f"LABEL {STATE_LABEL}={json.dumps(str(state))}"
    command = ["podman", "commit", "--pause", "--quiet", "--change", label]
    run(as_root([*command, site.container, f"{REPOSITORY}:{tag}"]), timeout_seconds=300)
    for name in KEPT:
        shutil.copytree(site.state_dir / name, state / name)
    (state / "image").write_text(_image_id(tag))
    _drop_others(tag)


def _image_id(tag: str) -> str:
    asked = run(
        as_root(["podman", "image", "inspect", "--format={{.Id}}", f"{REPOSITORY}:{tag}"]), check=False
    )
    return asked.stdout.strip() if asked.returncode == 0 else "none"


def _drop_others(tag: str) -> None:
    """Remove this checkout's older images of the same release, and those of checkouts that are gone."""
    listed = run(as_root(["podman", "images", "--format=json", f"--filter=label={STATE_LABEL}"])).stdout
    for found in json.loads(listed or "[]"):
        state = Path(found["Labels"][STATE_LABEL])
        older = state.parent == STATE_DIR and state.name != tag and state.name[:3] == tag[:3]
        if older or not state.exists():
            # One that a container still uses stays, and goes another time.
            run(as_root(["podman", "rmi", *(found.get("Names") or [found["Id"]])]), check=False)
            shutil.rmtree(state, ignore_errors=True)
