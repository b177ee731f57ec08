"""Where everything of an app lies on a host, and the one way its links move."""

from __future__ import annotations

import errno
import os
import re
import time
from pathlib import Path

from releasectl.config import Settings

RELEASE_ID = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{7}")
DEPS_ID = re.compile(r"[0-9a-f]{12}")
DAY_SECONDS = 86400


class Layout:
    """Name the paths of one app and read what its links say."""

    def __init__(self, settings: Settings) -> None:
        """Lay out the paths below the settings' folders."""
        self.root = settings.root
        self.run_dir = settings.run_dir
        self.releases = self.root / "releases"
        self.deps = self.root / "deps"
        self.incoming = self.root / "incoming"
        self.ledger = self.root / "ledger.jsonl"
        self.metrics = self.root / "releasectl.prom"
        self.metrics_lock = self.root / ".releasectl.prom.lock"
        self.lock = self.root / ".lock"
        self.deploy_lock = self.root / "deploy.lock"
        self.upstream = self.root / "upstream.sock"
        self.flower = self.root / "flower.sock"
        self.current = self.root / "current"
        self.previous = self.root / "previous"
        self.canary_socket = self.root / "canary.sock"
        self.canary_share = self.root / "canary"
        self.canary_shares = self.root / "canary.d"
        self.maintenance = self.root / "maintenance"
        self.maintenance_lock = self.root / ".maintenance.lock"
        self.closures = self.root / "maintenance.d"

    def release(self, release_id: str) -> Path:
        """Return the folder of a release."""
        return self.releases / release_id

    def socket(self, release_id: str) -> Path:
        """Return the socket a release's instance listens on."""
        return self.run_dir / f"{release_id}.sock"

    def flower_socket(self, release_id: str) -> Path:
        """Return the socket a release's Flower listens on."""
        return self.run_dir / "flower" / f"{release_id}.sock"

    def drain_file(self, release_id: str) -> Path:
        """Return the file whose existence tells that instance to drain."""
        return self.run_dir / f"{release_id}.drain"

    def hold_file(self, release_id: str) -> Path:
        """Return the file whose existence keeps that release's beat from the schedule."""
        return self.run_dir / f"{release_id}.hold"

    def warm_file(self, release_id: str) -> Path:
        """Return the file that says until when an instance goes on without traffic."""
        return self.run_dir / f"{release_id}.warm"

    def warm_until(self, release_id: str) -> float:
        """Return until when an instance goes on without traffic, in seconds since the epoch; 0: no more."""
        try:
            return float(self.warm_file(release_id).read_text())
        except (OSError, ValueError):
            return 0.0

    def runtime(self, release_id: str) -> Path:
        """Return the folder an instance keeps while the host is up: its metrics, its control socket."""
        return self.run_dir / release_id

    def staged(self) -> list[str]:
        """Return the ids of the staged releases, oldest build first."""
        return sorted(name for name in _names(self.releases) if RELEASE_ID.fullmatch(name))

    def staged_deps(self) -> list[str]:
        """Return the ids of the dependencies present."""
        return sorted(name for name in _names(self.deps) if DEPS_ID.fullmatch(name))

    def laid_by(self, deps_id: str) -> Path:
        """Return the environment that the next release with these dependencies will have."""
        return self.deps / f".{deps_id}.next"

    def draining(self) -> list[str]:
        """Return the ids of the releases that have a drain file."""
        return self._marked("drain")

    def held(self) -> list[str]:
        """Return the ids of the releases that have a hold file."""
        return self._marked("hold")

    def warm(self) -> list[str]:
        """Return the ids of the releases that are kept warm, or were until their time was over."""
        return self._marked("warm")

    def _marked(self, mark: str) -> list[str]:
        found = (Path(name) for name in _names(self.run_dir) if name.endswith(f".{mark}"))
        return sorted(path.stem for path in found if RELEASE_ID.fullmatch(path.stem))

    def kept_runtime(self) -> list[str]:
        """Return the ids of the releases that have a runtime folder, running or not."""
        found = (self.runtime(name) for name in _names(self.run_dir) if RELEASE_ID.fullmatch(name))
        return sorted(path.name for path in found if path.is_dir() and not path.is_symlink())

    def leftovers(self) -> list[Path]:
        """Return the hidden folders of runs that were killed; of a running one while the lock is held."""
        return sorted(self._hidden(".staging", ".damaged") + self._abandoned())

    def removed(self) -> list[Path]:
        """Return the folders that were taken away and whose files may still be there."""
        return self._hidden(".removed")

    def _hidden(self, *ends: str) -> list[Path]:
        folders = (self.root, self.deps, self.releases)
        found = [folder / name for folder in folders for name in _names(folder) if name.startswith(".")]
        return sorted(path for path in found if path.name.endswith(ends))

    def _abandoned(self) -> list[Path]:
        """Return the folders that archives were sent to and that nobody has fetched them from."""
        folders = [self.incoming / name for name in _names(self.incoming)]
        return [
            path for path in folders if path.is_dir() and path.stat().st_mtime < time.time() - DAY_SECONDS
        ]

    def active(self) -> str | None:
        """Return the id of the release traffic goes to: where `upstream.sock` points."""
        return self._socket_of(self.upstream)

    def canary(self) -> str | None:
        """Return the id of the release a share of the traffic may go to: where `canary.sock` points."""
        return self._socket_of(self.canary_socket)

    def _socket_of(self, link: Path) -> str | None:
        """Return the release whose socket a link leads to."""
        target = _target(link)
        if target is None or target.suffix != ".sock" or target.parent != self.run_dir:
            return None
        return target.stem if RELEASE_ID.fullmatch(target.stem) else None

    def linked(self, link: Path) -> str | None:
        """Return the release id that `current` or `previous` names, staged or not."""
        target = _target(link)
        return target.name if target is not None and RELEASE_ID.fullmatch(target.name) else None

    def switch_to(self, release_id: str) -> None:
        """Send every new connection from nginx to this release."""
        point(self.upstream, self.socket(release_id))

    def show_flower(self, release_id: str | None) -> bool:
        """Let nginx find this release's Flower, or none; return whether the link had to move."""
        there = _target(self.flower)
        if there == (self.flower_socket(release_id) if release_id else None):
            return False
        if release_id is None:
            self.flower.unlink(missing_ok=True)
        else:
            point(self.flower, self.flower_socket(release_id))
        return True

    def shows_flower(self, release_id: str) -> bool:
        """Whether nginx finds this release's Flower."""
        return _target(self.flower) == self.flower_socket(release_id)

    def installed(self, release_id: str, module: str) -> bool:
        """Whether a release's environment has a module; who may not look there is told it has.

        :param module: its file below site-packages.
        """
        venv = self.release(release_id) / "venv"
        if not os.access(venv, os.R_OK | os.X_OK):
            return venv.exists()
        return any(venv.glob(f"lib/python*/site-packages/{module}"))

    def variable(self, release_id: str, name: str) -> str:
        """Return a variable of a release's environment file, empty when it is not there."""
        for line in (self.release(release_id) / "release.env").read_text().splitlines():
            found, _, value = line.partition("=")
            if found.strip() == name:
                return value.strip().strip("'\"").strip()
        return ""

    def link_release(self, link: Path, release_id: str | None) -> None:
        """Let `current` or `previous` name a release, or nothing."""
        if release_id is None:
            link.unlink(missing_ok=True)
            sync_folder(link.parent)
        else:
            # Relative, so that a copy or another mount of the tree stays true.
            point(link, Path("releases") / release_id)


def point(link: Path, target: Path) -> None:
    """Let a symlink point somewhere else in one step that nobody can see half done.

    :raises OSError: when the folder cannot be written; the old link is then untouched.
    """
    fresh = link.with_name(f".{link.name}.new")
    # Left there by a run that was killed between the two calls below.
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)
    sync_folder(link.parent)


def replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file that nobody can see half written.

    :raises OSError: when it cannot be written; what was there is then untouched.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def rename_folder(folder: Path, target: Path) -> bool:
    """Give a folder another name; return False where overlayfs cannot.

    It cannot rename a folder of the image that a container was made from.
    """
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def sync_folder(folder: Path) -> None:
    """Make renames in a folder outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names are wanted, not paths
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def _target(link: Path) -> Path | None:
    try:
        return link.readlink()
    except OSError:
        return None
