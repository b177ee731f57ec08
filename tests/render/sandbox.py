"""A container of a Debian release with what inventories put on a host: nginx and systemd are asked there."""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from rendering import Host

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from target_host import apt, image, runtime  # noqa: E402
from target_host.shell import as_root, run  # noqa: E402

PACKAGES = ("nginx", "openssl")
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
    mkdir -p "/etc/ssl/$app" "/etc/$app/credentials" "$home/venv/bin" "$home/src"
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=$app" \\
        -keyout "/etc/ssl/$app/privkey.pem" -out "/etc/ssl/$app/fullchain.pem"
    cp /bin/true "$home/venv/bin/gunicorn"
    cp /bin/true "$home/venv/bin/python"
    touch "$home/release.json" "$home/release.env"
done
getent group redis >/dev/null || groupadd --system redis
"""


def podman(*arguments: str, check: bool = True, timeout_seconds: float = 60):
    """Run podman with the runtime this machine's target hosts use."""
    command = as_root(["podman", *runtime.podman_options(), *arguments])
    return run(command, check=check, timeout_seconds=timeout_seconds)


def limits() -> list[str]:
    return runtime.limit_options(runtime.read_facts())


def image_with_nginx(debian: int) -> str:
    """Return an image of a Debian release with nginx in it, built once and named by what it is made from.

    Its name begins as the target hosts' images do, so that `make clean` removes it with them.
    """
    base = image.ensure(debian)
    digest = hashlib.sha256("\0".join([base, INSTALL, *PACKAGES]).encode()).hexdigest()[:12]
    name = f"{image.REPOSITORY}-render:{debian}-{digest}"
    if not image.exists(name):
        build(base, name)
    return name


def build(base: str, name: str) -> None:
    container = f"render-build-{uuid.uuid4().hex[:8]}"
    configuration = apt.configuration(apt.controller_settings(os.environ))
    try:
        podman(
            "run", f"--name={container}", f"--env=APT_CONFIGURATION={configuration}", *limits(), base,
            "sh", "-c", INSTALL, "sh", *PACKAGES, timeout_seconds=600,
        )  # fmt: skip
        podman("commit", "--quiet", "--change=ENV APT_CONFIGURATION=", container, name, timeout_seconds=300)
    finally:
        podman("rm", "--force", "--time=0", container, check=False)


class Sandbox:
    """One container; the trees of several inventories laid over each other, as on a host they share."""

    def __init__(self, debian: int, hosts: Sequence[Host]):
        self.debian = debian
        self.hosts = list(hosts)
        self.apps = [host.app for host in hosts]
        self.odd = any(host.odd for host in hosts)
        self.name = f"render-{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> Sandbox:
        image_name = image_with_nginx(self.debian)
        trees = [f"--volume={host.root}:/rendered/{host.name}:ro" for host in self.hosts]
        # No network but its own loopback: nothing here may need a name or a mirror.
        options = [f"--name={self.name}", "--network=none", *trees, *limits()]
        podman("run", "--detach", *options, image_name, "sleep", "infinity")
        try:
            done = self.run("sh", "-c", PREPARE, "sh", RELEASE, *self.apps)
            assert done.returncode == 0, done.stdout + done.stderr
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        podman("rm", "--force", "--time=0", self.name, check=False)

    def run(self, *command: str):
        """Run a command in the container and return its result."""
        return podman("exec", self.name, *command, check=False, timeout_seconds=120)

    @property
    def units(self) -> list[str]:
        """The units this project wrote, templates as the instance of one release."""
        found = {
            path for host in self.hosts for path in host.files if path.startswith("/etc/systemd/system/")
        }
        return sorted(Path(path).name.replace("@.", f"@{RELEASE}.") for path in found)
