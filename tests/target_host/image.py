"""The plain Debian that every target host starts from: mmdebstrap's root file system as a podman image."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from target_host import apt
from target_host.inventory import RELEASES
from target_host.shell import PROJECT_DIR, Log, TargetHostError, as_root, run, say, step, tail, turn

REPOSITORY = "localhost/target-host"
FILES_DIR = Path(__file__).parent / "files"
# What a provider's Debian image has and this project relies on, and no more: a role that needs another
# package has to install it.
PACKAGES = (
    "apt",
    "ca-certificates",
    "dbus",
    "iproute2",
    "openssh-server",
    "procps",
    "python3",
    # As Debian's cloud images have it: without it, Ansible can tell nothing about packages in a dry run.
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)
OPTIONS = (
    "--variant=minbase",
    # A dry run on a fresh host asks what could be installed.
    "--skip=cleanup/apt/lists",
)
BUILD_TIMEOUT_SECONDS = 900
# systemd, unlike other programs, stops on this signal alone: SIGTERM makes it run its configuration anew.
#
# systemd makes its mounts shared at boot, but not in a container, where it leaves that to the manager.
# Credentials are mounted in a namespace of their own and travel back along shared mounts: without this,
# every LoadCredential= is silently empty.
CHANGES = (
    'CMD ["/bin/sh", "-c", "mount --make-rshared / && exec /sbin/init"]',
    "STOPSIGNAL SIGRTMIN+3",
)


def ca_certificates(environ: Mapping[str, str]) -> list[Path]:
    """Return the controller's own CA certificates, to be trusted by the hosts as well.

    They are those of /usr/local/share/ca-certificates, or of TARGET_HOST_CA_DIR; empty means none.
    """
    folder = environ.get("TARGET_HOST_CA_DIR", "/usr/local/share/ca-certificates")
    return sorted(Path(folder).glob("*.crt")) if folder else []


def digest(debian: int, certificates: Sequence[Path]) -> str:
    """Return 12 hex digits that change with anything the image is made from.

    The mirror's packages are not part of it: an image keeps those it was built with until `make clean`.
    """
    made_from = {
        "debian": debian,
        "packages": PACKAGES,
        "options": OPTIONS,
        "changes": CHANGES,
        "files": {
            str(path.relative_to(FILES_DIR)): _sha256(path)
            for path in sorted(FILES_DIR.rglob("*"))
            if path.is_file()
        },
        "certificates": {path.name: _sha256(path) for path in certificates},
    }
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:12]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def base_image(debian: int) -> str:
    """Return the image's name for a Debian release, whether or not it is built."""
    return f"{REPOSITORY}:{debian}-{digest(debian, ca_certificates(os.environ))}"


def exists(image: str) -> bool:
    """Say whether podman has `image`."""
    return run(as_root(["podman", "image", "exists", image]), check=False).returncode == 0


def bootstrap_command(debian: int, apt_settings: Mapping[str, str], ca_dir: str) -> list[str]:
    """Return the mmdebstrap command that writes the root file system to its standard output.

    No mirror is named: mmdebstrap then takes Debian's, with updates and security.
    """
    script, files, certificates = (
        shlex.quote(str(path)) for path in (FILES_DIR / "customize.sh", FILES_DIR, ca_dir)
    )
    hook = f'sh {script} "$1" {files} {certificates}'
    return [
        "mmdebstrap",
        "--mode=root",
        *OPTIONS,
        f"--include={','.join(PACKAGES)}",
        # Safe for an archive that is thrown away when the machine stops half-way, and a third faster.
        "--dpkgopt=force-unsafe-io",
        *(f'--aptopt={key} "{value}"' for key, value in apt_settings.items()),
        f"--customize-hook={hook}",
        RELEASES[debian],
        "-",
    ]


def ensure(debian: int, log: Log = say) -> str:
    """Build the image of a Debian release unless podman has it, and return its name.

    Raises TargetHostError with the end of the build's log.
    """
    image = base_image(debian)
    if exists(image):
        return image
    # Two inventories that start at once build it once: the later one waits, and finds it.
    with turn(f"target-host-image-{debian}"):
        if exists(image):
            return image
        with step(f"Building the Debian {debian} image (once)", log):
            _build(debian, image)
    return image


def _build(debian: int, image: str) -> None:
    log_path = PROJECT_DIR / f".cache/logs/target-host-image-{debian}.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    certificates = ca_certificates(os.environ)
    with tempfile.TemporaryDirectory() as folder, log_path.open("wb") as log:
        for certificate in certificates:
            (Path(folder) / certificate.name).write_bytes(certificate.read_bytes())
        bootstrap = as_root(
            bootstrap_command(debian, apt.controller_settings(os.environ), folder if certificates else "")
        )
        podman = as_root(["podman", "import", *(f"--change={change}" for change in CHANGES), "-", image])
        for command in (bootstrap, podman):
            log.write(f"$ {shlex.join(command)}\n".encode())
        log.flush()
        statuses = _pipe(bootstrap, podman, log)
    if any(statuses):
        # A broken pipe leaves podman with half an archive, which it takes for a whole one.
        run(as_root(["podman", "rmi", image]), check=False)
        raise TargetHostError(f"the Debian {debian} image could not be built:\n{tail(log_path)}")


def _pipe(left: list[str], right: list[str], log: object) -> list[int]:
    """Run `left | right`, both with their messages in `log`; return both exit statuses."""
    try:
        first = subprocess.Popen(left, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
    except FileNotFoundError as error:
        raise TargetHostError(f"{left[0]} is not installed") from error
    second = subprocess.Popen(right, stdin=first.stdout, stdout=log, stderr=log)
    first.stdout.close()
    processes = [second, first]
    try:
        return [process.wait(BUILD_TIMEOUT_SECONDS) for process in processes]
    except BaseException as error:
        for process in processes:
            # Through sudo it is not ours to kill; there Ctrl-C has reached it already.
            with contextlib.suppress(PermissionError):
                process.kill()
        if isinstance(error, subprocess.TimeoutExpired):
            raise TargetHostError(f"the image was not ready within {BUILD_TIMEOUT_SECONDS} s") from error
        raise


def remove_all(log: Log = say) -> None:
    """Remove every image this program made, but those that a container still uses."""
    listing = run(as_root(["podman", "images", "--format", "{{.Repository}}:{{.Tag}}"])).stdout
    for image in listing.split():
        if image.startswith(REPOSITORY):
            removed = run(as_root(["podman", "rmi", image]), check=False).returncode == 0
            log(f"removed {image}" if removed else f"kept {image}: a container uses it")
