"""Read what the controller built: check it before use, unpack it without trusting it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from releasectl import clock
from releasectl.errors import Refused
from releasectl.layout import DEPS_ID, RELEASE_ID

RELEASE_PARTS = {
    "release.json",
    "sbom.cdx.json",
    "release.env",
    "requirements.txt",
    "wheels",
    "src",
    "static",
}
DEPS_PARTS = {"requirements.txt", "wheels"}
MANIFEST = "release.json"
LONGEST_MANIFEST = 64 * 1024 * 1024
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What `release.json` says, as far as a host needs it.

    :param files: the sha256 of every other file of the archive, by its path in there.
    :param dependencies: the same for the archive of its dependencies.
    :param built_at: when it was built, in seconds since the epoch.
    :param overrides: packages whose requirements the inventory overruled (app_package_overrides).
    """

    id: str
    digest: str
    app: str
    python: str
    platform: str
    deps_id: str
    built_at: float
    files: dict[str, str]
    dependencies: dict[str, str]
    overrides: list[str]

    @property
    def own_packages(self) -> set[str]:
        """The packages that come with the release and not with its dependencies, as uv writes them."""
        wheels = (PurePosixPath(name).name for name in self.files if name.startswith("wheels/"))
        return {re.sub(r"[-_.]+", "-", wheel.split("-")[0]).lower() for wheel in wheels}


@dataclasses.dataclass(frozen=True)
class Need:
    """What unpacking and installing takes on disk."""

    bytes: int = 0
    inodes: int = 0

    def __add__(self, other: Need) -> Need:
        """Add up two needs."""
        return Need(self.bytes + other.bytes, self.inodes + other.inodes)


def read_manifest(path: Path) -> Manifest:
    """Return what a release archive says of itself.

    :raises Refused: when it is no release archive.
    """
    with _opened(path) as tar:
        for member, name in _members(tar, path, RELEASE_PARTS):
            if name == MANIFEST and member.size <= LONGEST_MANIFEST:
                return parse_manifest(_content(tar, member).read(), path)
    raise Refused(f"{path} holds no {MANIFEST}: it is no release archive")


def parse_manifest(text: bytes, path: Path) -> Manifest:
    """Check the text of a `release.json`.

    :param path: where it comes from, for the message.
    :raises Refused: naming what is wrong with it.
    """
    try:
        # A release that was built before there were these has none: it may come back, not be staged.
        told = {"overrides": [], "dependencies": {}, **json.loads(text)}
        if told["schema"] != 1:
            raise Refused(f"{path}: release.json has schema {told['schema']!r}, this releasectl knows 1")
        wanted = [field.name for field in dataclasses.fields(Manifest)]
        manifest = Manifest(**{**{name: told[name] for name in wanted}, "built_at": _time(told["built_at"])})
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path}: release.json is not what it should be: {error!r}") from error
    problem = _manifest_problem(manifest)
    if problem:
        raise Refused(f"{path}: release.json: {problem}")
    return manifest


def manifest_of(folder: Path) -> Manifest:
    """Return the manifest of a staged release.

    :raises OSError: when it cannot be read.
    :raises Refused: naming what is wrong with it.
    """
    return parse_manifest((folder / MANIFEST).read_bytes(), folder)


def unpack(path: Path, target: Path, parts: set[str]) -> None:
    """Unpack an archive into a new folder.

    Regular files and folders only, inside the folder only, owner and mode ours. This is written out
    because Debian 12's Python has no extraction filter for `tarfile`.

    :param target: the folder, which must exist.
    :param parts: the names allowed at the top of the archive.
    :raises Refused: when the archive holds anything else or is damaged.
    """
    with _opened(path) as tar:
        for member, name in _members(tar, path, parts):
            place = target / name
            if member.isdir():
                place.mkdir(parents=True, exist_ok=True)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                _write(tar, member, place)


def verify(path: Path, files: dict[str, str], parts: set[str]) -> None:
    """See that an archive holds exactly the files that `release.json` names, and itself.

    :param files: their digests, by the path in the archive.
    :param parts: the names allowed at the top of the archive.
    :raises Refused: naming the first few that differ.
    """
    with _opened(path) as tar:
        members = _members(tar, path, parts)
        found = {name: _sha256(_content(tar, member)) for member, name in members if member.isreg()}
    found.pop(MANIFEST, None)
    wrong = [f"{name} is missing" for name in files if name not in found]
    wrong += [f"{name} is not in release.json" for name in found if name not in files]
    wrong += [f"{name} has another digest" for name in found if files.get(name, found[name]) != found[name]]
    if wrong:
        raise Refused(f"{path} does not hold what release.json says: {', '.join(wrong[:5])}")


def differs(file: Path, digest: str) -> bool:
    """Whether a file's content is not the one of this sha256.

    :raises OSError: when there is no such file.
    """
    with file.open("rb") as stream:
        return _sha256(stream) != digest


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder, symlinks among them."""
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place, name)


def need(path: Path) -> Need:
    """Return what an archive takes on disk, unpacked, installed and byte-compiled.

    :raises Refused: when it is damaged.
    """
    total = Need()
    with _opened(path) as tar:
        for member, name in _members(tar, path, RELEASE_PARTS | DEPS_PARTS):
            total += Need(member.size, 1)
            if name.endswith(".whl"):
                total += _wheel_need(tar, member, path)
            elif name.endswith(".py"):
                total += Need(member.size, 1)
    return total


def _wheel_need(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> Need:
    try:
        with zipfile.ZipFile(_content(tar, member)) as wheel:
            entries = wheel.infolist()
    except zipfile.BadZipFile as error:
        raise Refused(f"{path}: {member.name} is damaged: {error}") from error
    modules = [entry for entry in entries if entry.filename.endswith(".py")]
    # Bytecode is about as long as its source; every file takes half a block more than its length.
    size = sum(entry.file_size + 2048 for entry in entries) + sum(entry.file_size for entry in modules)
    return Need(size, len(entries) + len(modules))


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:") as tar:
            yield tar
    except (OSError, tarfile.TarError, EOFError) as error:
        if isinstance(error, OSError) and str(error.filename) != str(path):
            raise
        raise Refused(f"{path} cannot be read as an archive: {error}") from error


def _members(tar: tarfile.TarFile, path: Path, parts: set[str]) -> Iterator[tuple[tarfile.TarInfo, str]]:
    seen = set()
    for member in tar:
        pure = PurePosixPath(member.name)
        name = pure.as_posix()
        if name == ".":
            continue
        if pure.is_absolute() or ".." in pure.parts or pure.parts[0] not in parts:
            raise Refused(f"{path}: {member.name!r} does not belong in such an archive")
        if not (member.isreg() or member.isdir()):
            raise Refused(f"{path}: {member.name!r} is neither a file nor a folder")
        if name in seen and not member.isdir():
            raise Refused(f"{path}: {member.name!r} is in there twice")
        seen.add(name)
        yield member, name


def _sha256(stream: IO[bytes]) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise Refused(f"{member.name!r} has no content")
    return content


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    mode = 0o755 if member.mode & 0o100 else 0o644
    with place.open("xb") as file:
        shutil.copyfileobj(_content(tar, member), file, 1024 * 1024)
    place.chmod(mode)
    os.utime(place, (member.mtime, member.mtime))


def _time(text: str) -> float:
    seconds = clock.parse(text)
    if seconds is None:
        raise ValueError(f"built_at {text!r} is not a time")
    return seconds


def _manifest_problem(manifest: Manifest) -> str:
    """Return what makes it unfit, empty when it is fit."""
    digests = [
        digest
        for named in (manifest.files, manifest.dependencies)
        for digest in (named.values() if isinstance(named, dict) else [None])
    ]
    if not RELEASE_ID.fullmatch(str(manifest.id)):
        return f"{manifest.id!r} is not a release id"
    if not DEPS_ID.fullmatch(str(manifest.deps_id)):
        return f"{manifest.deps_id!r} is not a dependencies id"
    if not str(manifest.digest).removeprefix("sha256:").startswith(manifest.id[-7:]):
        return f"the id {manifest.id} does not come from the digest {manifest.digest}"
    if not all(isinstance(digest, str) and SHA256.fullmatch(digest) for digest in digests):
        return "'files' and 'dependencies' do not give a sha256 for every file"
    if not isinstance(manifest.overrides, list):
        return "'overrides' is no list of packages"
    return ""
