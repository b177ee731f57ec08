"""Put a release on this host: everything but traffic.

Nothing appears under its final name before it is whole and on disk, so a run that was killed leaves
hidden folders only, which the next `stage` clears away.
"""

from __future__ import annotations

import csv
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from releasectl import archive, aside, settling
from releasectl.archive import Manifest, Need
from releasectl.errors import Failed, Refused
from releasectl.facts import python_minor, room
from releasectl.host import Host
from releasectl.layout import rename_folder, sync_folder
from releasectl.output import Result, size
from releasectl.uv import Uv

# What the host keeps free for itself whatever is staged.
RESERVE = Need(64 * 1024 * 1024, 2000)


def stage(host: Host, release_archive: Path, deps_archive: Path | None) -> Result:
    """Unpack, check and install a release.

    :param release_archive: `release-<id>.tar`.
    :param deps_archive: `deps-<deps>.tar`, needed when this host has not got these dependencies yet.
    :raises Refused: when the archives are not right for this host, or there is no room.
    :raises Failed: when installing fails.
    """
    manifest = archive.read_manifest(release_archive)
    _fits(host, manifest)
    data = {"release": manifest.id, "deps_id": manifest.deps_id}
    if _staged_before(host, manifest):
        _tidy_incoming(host, release_archive, deps_archive)
        return Result("already staged", False, f"{manifest.id} is already staged and intact", data)
    archive.verify(release_archive, manifest.files, archive.RELEASE_PARTS)
    deps_new = not _deps_there(host, manifest)
    if deps_new:
        _deps_fit(host, manifest, deps_archive)
    _clear_leftovers(host)
    # A worker that was still on its way out kept its release's when that failed.
    for remark in settling.forget(host):
        host.out.progress(remark)
    _room(host, [release_archive, *([deps_archive] if deps_new and deps_archive else [])])
    with (
        _cleared_on_failure(host),
        tempfile.TemporaryDirectory(prefix=".uv-", suffix=".staging", dir=host.layout.root) as cache,
    ):
        uv = Uv(host.settings.uv, host.settings.python, Path(cache), host.lock)
        if deps_new and deps_archive:
            _stage_deps(host, manifest, deps_archive, uv)
        _stage_release(host, manifest, release_archive, uv)
    _tidy_incoming(host, release_archive, deps_archive)
    return Result("staged", True, f"{manifest.id} is staged", {**data, "deps_staged": deps_new})


def _fits(host: Host, manifest: Manifest) -> None:
    settings = host.settings
    minor = python_minor(settings.python)
    if manifest.app != settings.app:
        raise Refused(f"the archive is a release of {manifest.app!r}, not of {settings.app!r}")
    if manifest.python != minor:
        raise Refused(f"the release was built for Python {manifest.python}, this host has {minor}")
    if platform.machine() not in manifest.platform:
        raise Refused(f"the release was built for {manifest.platform}, this host is {platform.machine()}")


def _staged_before(host: Host, manifest: Manifest) -> bool:
    folder = host.layout.release(manifest.id)
    if not folder.exists():
        return False
    try:
        there = archive.manifest_of(folder)
    except (OSError, Refused):
        return False
    if there.digest != manifest.digest or there.files != manifest.files:
        raise Refused(f"another content is staged under the id {manifest.id}: build it again")
    return intact(folder, manifest)


def intact(folder: Path, manifest: Manifest) -> bool:
    """Whether a staged release still is what was staged.

    Its own files by digest; what is installed by the sizes its packages recorded, which is quick enough
    to be done each time and finds what was deleted or cut short.
    """
    kept = {name: digest for name, digest in manifest.files.items() if _is_kept(name)}
    try:
        own = not any(archive.differs(folder / name, digest) for name, digest in kept.items())
        return own and (folder / "venv/bin/python").exists() and _installed(folder / "venv")
    except OSError:
        return False


def _is_kept(name: str) -> bool:
    return name in ("release.env", "sbom.cdx.json") or name.startswith(("src/", "static/"))


def _installed(venv: Path) -> bool:
    records = list(venv.glob("lib/python*/site-packages/*.dist-info/RECORD"))
    return bool(records) and all(_recorded(record) for record in records)


def _recorded(record: Path) -> bool:
    site = str(record.parent.parent)
    with record.open(newline="") as lines:
        rows = [row for row in csv.reader(lines) if len(row) == 3 and row[2]]
    # Texts, not paths: there are ten thousand of them.
    return all(os.stat(f"{site}/{name}").st_size == int(length) for name, _, length in rows)  # noqa: PTH116


@contextmanager
def _cleared_on_failure(host: Host) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with host.signals.shielded():
            _clear_leftovers(host)
        raise


def _clear_leftovers(host: Host) -> None:
    """Remove what runs that were killed left behind. The lock says that nobody else is at it."""
    layout = host.layout
    for folder in layout.leftovers():
        host.out.progress(f"removing {folder.name}, left by a run that was stopped")
        shutil.rmtree(folder)
    for folder in layout.removed():
        # Something else may be at it.
        shutil.rmtree(folder, ignore_errors=True)


def _deps_there(host: Host, manifest: Manifest) -> bool:
    """Whether the dependencies are installed, by the very lock that release.json vouches for."""
    place = host.layout.deps / manifest.deps_id
    lock = manifest.dependencies.get("requirements.txt", "")
    try:
        same = not archive.differs(place / "requirements.txt", lock)
        return same and _installed(place / "venv")
    except OSError:
        return False


def _deps_fit(host: Host, manifest: Manifest, deps_archive: Path | None) -> None:
    wanted = f"deps-{manifest.deps_id}.tar"
    if deps_archive is None:
        raise Refused(
            f"this host has not got the dependencies {manifest.deps_id}",
            next_command=host.command(f"stage release-{manifest.id}.tar --deps {wanted}"),
        )
    if deps_archive.name != wanted:
        raise Refused(f"release {manifest.id} needs {wanted}, not {deps_archive.name}")
    archive.verify(deps_archive, manifest.dependencies, archive.DEPS_PARTS)


def _room(host: Host, archives: list[Path]) -> None:
    needed = sum((archive.need(path) for path in archives), RESERVE)
    free, inodes = room(host.layout.root)
    if free < needed.bytes:
        raise Refused(
            _no_room(host, f"{size(free)} free, {size(needed.bytes)} needed"), next_command=_prune(host)
        )
    if inodes is not None and inodes < needed.inodes:
        counts = f"{inodes} inodes free, {needed.inodes} needed"
        raise Refused(_no_room(host, counts), next_command=_prune(host))


def _no_room(host: Host, counts: str) -> str:
    return f"not enough room below {host.layout.root}: {counts}"


def _prune(host: Host) -> str:
    return host.command("prune --keep 2")


def _stage_deps(host: Host, manifest: Manifest, path: Path, uv: Uv) -> None:
    deps_id = manifest.deps_id
    host.out.progress(f"installing the dependencies {deps_id}")
    place = host.layout.deps / f".{deps_id}.staging"
    place.mkdir(parents=True, mode=0o750)
    archive.unpack(path, place, archive.DEPS_PARTS)
    uv.make(place / "venv")
    uv.install(place / "venv", place, compile_bytecode=True)
    uv.check(place / "venv", {*manifest.overrides, *manifest.own_packages})
    shutil.rmtree(place / "wheels", ignore_errors=True)
    # uv leaves its lock file writable to everybody, and every release would link to it.
    (place / "venv/.lock").unlink(missing_ok=True)
    _hide(host, place)
    # Linked from what was found damaged.
    shutil.rmtree(host.layout.laid_by(deps_id), ignore_errors=True)
    _publish(place, host.layout.deps / deps_id)


def _stage_release(host: Host, manifest: Manifest, path: Path, uv: Uv) -> None:
    host.out.progress(f"installing {manifest.id}")
    layout = host.layout
    place = layout.releases / f".{manifest.id}.staging"
    place.mkdir(parents=True, mode=0o755)
    archive.unpack(path, place, archive.RELEASE_PARTS)
    laid_by = layout.laid_by(manifest.deps_id)
    try:
        taken = rename_folder(laid_by, place / "venv")
    except FileNotFoundError:
        taken = False
    if not taken:
        shutil.rmtree(laid_by, ignore_errors=True)
        link_tree(layout.deps / manifest.deps_id / "venv", place / "venv")
    _install_own(place, uv, manifest.overrides)
    for name in ("src", "static"):
        (place / name).mkdir(exist_ok=True)
    _date(place / "static", manifest.built_at)
    _hide(host, place / "venv")
    _hide(host, place / "src")
    _publish(place, layout.release(manifest.id))


def link_tree(source: Path, target: Path) -> None:
    """Copy a tree of folders by linking its files: the same bytes, and only the folders take up space.

    :raises Failed: when the two are on different file systems.
    """
    words = [*aside.LINK_TREE, str(source), str(target)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"`{' '.join(words)}` failed: {done.stderr.strip()}")


def _install_own(place: Path, uv: Uv, overrides: list[str]) -> None:
    """Install the release's own wheels and byte-compile what came new, nothing else."""
    venv = place / "venv"
    before = set(_records(venv))
    if any((place / "wheels").glob("*.whl")):
        uv.install(venv, place, compile_bytecode=False)
    new = [record for record in _records(venv) if record not in before]
    with _compiled(venv, [*_modules(new), place / "src"]):
        uv.check(venv, overrides)
    (venv / ".lock").unlink(missing_ok=True)
    shutil.rmtree(place / "wheels", ignore_errors=True)
    (place / "requirements.txt").unlink(missing_ok=True)


def _records(venv: Path) -> list[tuple[Path, int]]:
    """Return every installed package's record, told apart from one of the same name by its inode."""
    found = venv.glob("lib/python*/site-packages/*.dist-info/RECORD")
    return [(record, record.stat().st_ino) for record in found]


def _modules(records: list[tuple[Path, int]]) -> list[Path]:
    modules = []
    for record, _ in records:
        with record.open(newline="") as lines:
            names = [row[0] for row in csv.reader(lines) if row]
        modules += [record.parent.parent / name for name in names if name.endswith(".py")]
    return modules


@contextmanager
def _compiled(venv: Path, paths: list[Path]) -> Iterator[None]:
    """Byte-compile files and folders beside the block: the app may not write here, so no later start could.

    A template that only looks like Python is no reason to refuse a release.
    """
    words = [str(venv / "bin/python"), "-I", "-m", "compileall", "-q", "-i", "-"]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True
    ) as process:
        process.stdin.write("\n".join(str(path) for path in paths))
        process.stdin.close()
        yield


def _date(folder: Path, built_at: float) -> None:
    """Give static files the time of the build.

    nginx makes an ETag of time and length. With the fixed time of a reproducible archive, a file that
    changed and kept its length would be "not modified" to every browser.
    """
    for file in archive.files_below(folder):
        os.utime(file, (built_at, built_at))


def _hide(host: Host, folder: Path) -> None:
    """Let only root and the app look into a folder."""
    shutil.chown(folder, group=host.settings.group)
    folder.chmod(0o750)


def _publish(place: Path, final: Path) -> None:
    """Give a finished folder its name, once all of it is on disk."""
    done = subprocess.run(["sync", "--file-system", str(place)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"`sync` failed: {done.stderr.strip()}")
    damaged = final.with_name(f".{final.name}.damaged")
    if final.exists():
        # Found damaged, or it would not be staged again. Running processes keep the files they opened.
        final.rename(damaged)
    place.rename(final)
    sync_folder(final.parent)
    shutil.rmtree(damaged, ignore_errors=True)


def _tidy_incoming(host: Host, *archives: Path | None) -> None:
    for path in archives:
        if path is not None and path.resolve().parent == host.layout.incoming.resolve():
            path.unlink(missing_ok=True)
