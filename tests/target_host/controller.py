"""Prepare the controller: programs from apt, and virtual environments from hashed locks."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from target_host import runtime
from target_host.shell import (
    PROJECT_DIR,
    Log,
    TargetHostError,
    as_root,
    relative,
    run_logged,
    say,
    step,
    turn,
)

REQUIREMENTS_DIR = PROJECT_DIR / "requirements"
UV_LOCK = REQUIREMENTS_DIR / "uv.txt"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
LOG_PATH = PROJECT_DIR / ".cache/logs/prepare.log"
OLDEST_PYTHON = (3, 11)
# /usr/sbin is not on everybody's PATH on Debian.
SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Need:
    """A Debian package, why it is needed, and how to see that it is there."""

    package: str
    why: str
    present: Callable[[], bool]


def _program(name: str) -> Callable[[], bool]:
    return lambda: shutil.which(name, path=SEARCH_PATH) is not None


def _file(*paths: str) -> Callable[[], bool]:
    return lambda: any(Path(path).exists() for path in paths)


def _can_make_venv() -> bool:
    # Debian splits ensurepip off into python3-venv; other Pythons have it.
    return run_quietly([sys.executable, "-c", "import ensurepip, venv"])


def run_quietly(command: list[str]) -> bool:
    """Say whether `command` succeeds."""
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


VENV_NEEDS = (Need("python3-venv", "makes .venv", _can_make_venv),)
HOST_NEEDS = (
    Need("podman", "runs the target hosts", _program("podman")),
    Need("mmdebstrap", "makes their Debian image", _program("mmdebstrap")),
    # What podman needs for a network of containers, and Debian only recommends.
    Need("netavark", "the hosts' network", _file("/usr/lib/podman/netavark", "/usr/libexec/podman/netavark")),
    Need(
        "aardvark-dns",
        "hosts find each other by name",
        _file("/usr/lib/podman/aardvark-dns", "/usr/libexec/podman/aardvark-dns"),
    ),
    Need("iptables", "publishes the hosts' ports", _program("iptables")),
    Need("runc", "starts them where crun cannot", lambda: not runtime.needs_runc() or _program("runc")()),
    Need("openssh-client", "reaches the hosts", lambda: _program("ssh")() and _program("ssh-keygen")()),
)
# What the app's tests start for themselves, beside whatever of it runs here.
APP_NEEDS = (
    Need("postgresql", "the app's database", lambda: any(Path("/usr/lib/postgresql").glob("*/bin/postgres"))),
    Need("redis-server", "the app's broker", _program("redis-server")),
    Need("chromium", "looks at the app's pages", _program("chromium")),
)


def install(needs: Iterable[Need], log: Log = say) -> None:
    """Install from apt what is missing of `needs`, after a line that says what and why.

    Raises TargetHostError naming the packages where there is no apt, or no way to become root.
    """
    missing = [need for need in needs if not need.present()]
    if not missing:
        return
    packages = [need.package for need in missing]
    if shutil.which("apt-get") is None:
        raise TargetHostError(f"this is not Debian; install yourself: {', '.join(packages)} (Debian's names)")
    if os.geteuid() != 0 and shutil.which("sudo") is None:
        raise TargetHostError(f"neither root nor sudo; as root, run: apt-get install {' '.join(packages)}")
    log(f"Installing {', '.join(f'{need.package} ({need.why})' for need in missing)}")
    with step(f"apt-get install {' '.join(packages)}", log):
        apt_get = as_root(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"])
        run_logged([*apt_get, "update"], LOG_PATH, timeout_seconds=300)
        run_logged(
            [*apt_get, "install", "--yes", "--no-install-recommends", *packages],
            LOG_PATH,
            timeout_seconds=900,
        )


def venv(path: Path, locks: Iterable[Path], sources: Iterable[Path] = (), log: Log = say) -> None:
    """Make the virtual environment `path` hold exactly what the hashed `locks` name.

    A stamp inside keeps the locks' digests: while they do not change, this returns at once. An environment
    made from these locks and more (the development lock comes after the controller's) is left alone.

    The folders in `sources` are importable from it, as they are: no build, nothing copied.

    Raises TargetHostError when this Python is too old or a package does not come with its locked hash.
    """
    if sys.version_info < OLDEST_PYTHON:
        raise TargetHostError(
            f"Python 3.11 or newer is needed, and {sys.executable} is {sys.version.split()[0]}"
        )
    locks = list(locks)
    wanted = digests([UV_LOCK, *locks])
    if _made_from(path)[: len(wanted)] == wanted:
        return
    install(VENV_NEEDS, log)
    with turn("venv"):
        if _made_from(path)[: len(wanted)] == wanted:
            return
        _stamp(path).unlink(missing_ok=True)
        with step(f"Installing {', '.join(map(relative, locks))} into {relative(path)}", log):
            _sync(path, locks)
            for site_packages in path.glob("lib/python*/site-packages"):
                importable = "".join(f"{source.resolve()}\n" for source in sources)
                (site_packages / "sources.pth").write_text(importable)
        _stamp(path).write_text("\n".join(wanted) + "\n")


def _stamp(path: Path) -> Path:
    return path / ".locks"


def _made_from(path: Path) -> list[str]:
    """Return the digests of the locks that `path` was made from, none if it is not whole."""
    whole = _stamp(path).exists() and (path / "bin/python").exists()
    return _stamp(path).read_text().splitlines() if whole else []


def _sync(path: Path, locks: list[Path]) -> None:
    main = PROJECT_DIR / ".venv"
    # The cache lies beside the environments: on one file system uv links instead of copying.
    cache = os.environ.get("UV_CACHE_DIR", str(PROJECT_DIR / ".cache/uv"))
    env = {**_trust(), "VIRTUAL_ENV": str(path), "UV_CACHE_DIR": cache}
    uv = str(main / "bin/uv")
    if path == main:
        _bootstrap(main)
        locks = [UV_LOCK, *locks]
    else:
        run_logged(
            [uv, "venv", "--clear", "--python", str(main / "bin/python"), str(path)], LOG_PATH, env=env
        )
    run_logged(
        [uv, "pip", "sync", "--require-hashes", *map(str, locks)], LOG_PATH, timeout_seconds=900, env=env
    )
    if path == main:
        _compile(main)


def _compile(path: Path) -> None:
    """Byte-compile Ansible, which otherwise takes twice as long to start where Python may not do so itself.

    Its collections are left out: thousands of files, of which a run imports a handful.
    """
    command = [str(path / "bin/python"), "-m", "compileall", "-q", "-j", "0", "-x", "ansible_collections"]
    run_logged([*command, *map(str, path.glob("lib/python*/site-packages"))], LOG_PATH)


def _bootstrap(path: Path) -> None:
    """Make a virtual environment with the locked uv in it, by pip."""
    if not run_quietly([str(path / "bin/python"), "-m", "pip", "--version"]):
        run_logged([sys.executable, "-m", "venv", "--clear", str(path)], LOG_PATH)
    pip = [str(path / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run_logged(
        [*pip, "--require-hashes", "--only-binary=:all:", f"--requirement={UV_LOCK}"],
        LOG_PATH,
        timeout_seconds=300,
        env=_trust(),
    )


def _trust() -> dict[str, str]:
    """Return the environment that lets pip and uv trust what the system trusts: a company's proxy, say.

    Each brings a list of authorities of its own. What a person has set is left.
    """
    if not CA_BUNDLE.exists():
        return {}
    return {name: os.environ.get(name, str(CA_BUNDLE)) for name in ("PIP_CERT", "SSL_CERT_FILE")}


def digests(paths: Iterable[Path]) -> list[str]:
    """Return the sha256 of each file, in order.

    Raises TargetHostError for one that is not there.
    """
    try:
        return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    except FileNotFoundError as error:
        raise TargetHostError(f"{error.filename} is missing") from error
