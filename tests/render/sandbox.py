"""A container of a Debian release with what inventories put on a host: nginx and systemd are asked there."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rendering import Host

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from target_host import apt, image, runtime  # noqa: E402
from target_host.shell import as_root, run  # noqa: E402

PACKAGES = ("nginx", "curl", "openssl", "slowhttptest", "testssl.sh")
# A release id: the name of the instances that are looked at.
RELEASE = "20260101T000000Z-abc1234"
INSTALL = """
set -e
printf '%s' "$APT_CONFIGURATION" > /etc/apt/apt.conf.d/99render
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
rm -rf /etc/apt/apt.conf.d/99render /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
"""
# What the roles would have made before nginx and systemd read their files: certificates, programs, accounts.
PREPARE = """
set -e
release="$1"; shift
for tree in /rendered/*; do
    cp -r "$tree/." /
done
rm -f /etc/nginx/sites-enabled/default
for app in "$@"; do
    id "$app" >/dev/null 2>&1 || useradd --system "$app"
    home="/srv/$app/releases/$release"
    mkdir -p "/etc/ssl/$app" "/etc/$app/credentials" "/etc/$app/credentials.encrypted"
    mkdir -p "$home/venv/bin" "$home/src"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$app" \\
        -keyout "/etc/ssl/$app/privkey.pem" -out "/etc/ssl/$app/fullchain.pem"
    cp /bin/true "$home/venv/bin/gunicorn"
    cp /bin/true "$home/venv/bin/python"
    touch "$home/release.json" "$home/release.env"
done
cp /bin/true /usr/local/sbin/releasectl
getent group redis >/dev/null || groupadd --system redis
"""


def podman(*arguments: str, check: bool = True, timeout_seconds: float = 60):
    """Run podman with the runtime this machine's target hosts use."""
    command = as_root(["podman", *runtime.podman_options(), *arguments])
    return run(command, check=check, timeout_seconds=timeout_seconds)


def limits() -> list[str]:
    return runtime.limit_options(runtime.read_facts())


def image_with(debian: int, packages: Sequence[str]) -> str:
    """Return an image of a Debian release with packages in it, built once and named by what it is made from.

    Its name begins as the target hosts' images do, so that `make clean` removes it with them.
    """
    base = image.ensure(debian)
    digest = hashlib.sha256("\0".join([base, INSTALL, *packages]).encode()).hexdigest()[:12]
    name = f"{image.REPOSITORY}-render:{debian}-{digest}"
    if not image.exists(name):
        build(base, name, packages)
    return name


def build(base: str, name: str, packages: Sequence[str]) -> None:
    container = f"render-build-{uuid.uuid4().hex[:8]}"
    configuration = apt.configuration(apt.controller_settings(os.environ))
    try:
        podman(
            "run", f"--name={container}", f"--env=APT_CONFIGURATION={configuration}", *limits(), base,
            "sh", "-c", INSTALL, "sh", *packages, timeout_seconds=600,
        )  # fmt: skip
        podman("commit", "--quiet", "--change=ENV APT_CONFIGURATION=", container, name, timeout_seconds=300)
    finally:
        podman("rm", "--force", "--time=0", container, check=False)


class Container:
    """A container without a network, there as long as it is used."""

    def __init__(self, debian: int):
        """Describe it; nothing is started."""
        self.debian = debian
        self.name = f"render-{uuid.uuid4().hex[:8]}"

    def begin(self, packages: Sequence[str], volumes: Sequence[str], *prepare: str) -> None:
        """Start it, with Debian packages and folders of this machine's, and run a first command in it.

        Raises AssertionError, with what that said, if it fails; the container is gone then.
        """
        # No network but its own loopback: nothing here may need a name or a mirror.
        options = [f"--name={self.name}", "--network=none", *volumes, *limits()]
        podman("run", "--detach", *options, image_with(self.debian, packages), "sleep", "infinity")
        try:
            done = self.run(*prepare)
            assert done.returncode == 0, done.stdout + done.stderr
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_error: object) -> None:
        podman("rm", "--force", "--time=0", self.name, check=False)

    def run(self, *command: str, timeout_seconds: float = 120):
        """Run a command in the container and return its result."""
        return podman("exec", self.name, *command, check=False, timeout_seconds=timeout_seconds)


class Sandbox(Container):
    """One container; the trees of several inventories laid over each other, as on a host they share."""

    def __init__(self, debian: int, hosts: Sequence[Host], shared: Mapping[str, Path] | None = None):
        """Describe it; `shared` names folders of this machine's by where they are to be there."""
        super().__init__(debian)
        self.shared = shared or {}
        self.hosts = list(hosts)
        self.apps = [host.app for host in hosts]
        self.odd = any(host.odd for host in hosts)

    def __enter__(self) -> Sandbox:
        trees = [f"--volume={host.root}:/rendered/{host.name}:ro" for host in self.hosts]
        shared = [f"--volume={folder}:{path}" for path, folder in self.shared.items()]
        scripts = f"--volume={Path(__file__).parent}:/scripts:ro"
        self.begin(PACKAGES, [scripts, *trees, *shared], "sh", "-c", PREPARE, "sh", RELEASE, *self.apps)
        return self

    def beside(self, *command: str | Path):
        """Run a program of this machine's in the container's network and return its result."""
        process = podman("inspect", "--format={{.State.Pid}}", self.name).stdout.strip()
        inside = as_root(["nsenter", f"--net=/proc/{process}/ns/net", *map(str, command)])
        return run(inside, check=False, timeout_seconds=120)

    def told(self, script: str, given: object) -> Any:
        """Run one of this folder's scripts in the container, given something as JSON; return what it prints.

        Raises AssertionError, with what it said, if it fails.
        """
        done = self.run("python3", "-B", f"/scripts/{script}.py", json.dumps(given))
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return json.loads(done.stdout)

    @property
    def units(self) -> list[str]:
        """The units this project wrote, templates as the instance of one release; drop-ins are no units."""
        folder = Path("/etc/systemd/system")
        found = {path for host in self.hosts for path in host.files if Path(path).parent == folder}
        return sorted(Path(path).name.replace("@.", f"@{RELEASE}.") for path in found)
