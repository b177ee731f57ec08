"""Write the two archives of a release, the same bytes for the same content."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
from dataclasses import dataclass
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

# The first moment that a zip archive can tell.
EPOCH = 315532800
# 2001-09-09, and about thirty million seconds from it: past times, whatever the content.
OLDEST_MTIME, MTIME_RANGE = 1_000_000_000, 2**25
# What a value within double quotes must escape, for systemd's EnvironmentFile= and for a shell alike.
ESCAPED = re.compile(r'(["\\`$])')


@dataclass(frozen=True)
class Member:
    """One file of an archive."""

    name: str
    content: bytes
    executable: bool = False

    @property
    def sha256(self) -> str:
        """The digest of the content."""
        return hashlib.sha256(self.content).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the digest of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content_mtime(digest: str) -> int:
    """Return a file's time, taken from its digest.

    nginx makes an ETag of a file's time and size. One time for all files would let a browser keep the old
    file when a new one has the same size; the build's time would make it fetch all files at each release.
    """
    return OLDEST_MTIME + int(digest[:12], 16) % MTIME_RANGE


def write_tar(path: Path, members: list[Member]) -> None:
    """Write an archive: sorted names, root's files, times that follow from the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as archive:
        for member in sorted(members, key=lambda member: member.name):
            info = tarfile.TarInfo(member.name)
            info.size = len(member.content)
            info.mode = 0o755 if member.executable else 0o644
            info.mtime = content_mtime(member.sha256)
            info.uname = info.gname = "root"
            archive.addfile(info, io.BytesIO(member.content))
    unfinished.rename(path)


def environment_file(values: dict[str, str]) -> bytes:
    """Return lines for systemd's EnvironmentFile=, which a shell reads the same way.

    Within double quotes systemd takes the backslash from before a quote, backslash, backtick or dollar sign
    and expands nothing (systemd.exec(5)).
    Raises ValueError for a control character: a line break would begin another variable.
    """
    for key, value in values.items():
        if any(ord(character) < 32 for character in value):
            raise ValueError(f"{key} holds a line break or another control character")
    quoted = {key: ESCAPED.sub(r"\\\1", value) for key, value in values.items()}
    return "".join(f'{key}="{value}"\n' for key, value in quoted.items()).encode()


def canonical_json(value) -> bytes:
    """Return JSON that is the same bytes for the same value."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


def normalise_wheel(source: Path, target: Path) -> None:
    """Write a wheel anew with sorted members, fixed times and plain modes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in sorted(old.infolist(), key=lambda entry: entry.filename):
            if entry.is_dir():
                continue
            executable = entry.external_attr >> 16 & 0o100
            info = zipfile.ZipInfo(entry.filename)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o100755 if executable else 0o100644) << 16
            new.writestr(info, old.read(entry))


def wheel_contents(path: Path) -> dict[str, str]:
    """Return a digest for every member of a wheel that says what it installs.

    RECORD repeats the others, and WHEEL names the version of the tool that built it.
    """
    found = {}
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            content = archive.read(name)
            if name.endswith(".dist-info/RECORD"):
                continue
            if name.endswith(".dist-info/WHEEL"):
                content = re.sub(rb"(?m)^Generator:.*\n?", b"", content)
            found[name] = hashlib.sha256(content).hexdigest()
    return found


def wheel_files(path: Path) -> dict[str, str]:
    """Return members that land on sys.path, from the installed name to the name in the wheel."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    return {
        re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", name): name for name in names if not name.endswith("/")
    }


def wheel_read(path: Path, name: str) -> bytes:
    """Return one member of a wheel."""
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def wheel_metadata(path: Path) -> dict:
    """Return name, version, requirements, Python requirement and licences of a wheel."""
    with zipfile.ZipFile(path) as archive:
        (name,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        headers = HeaderParser().parsestr(archive.read(name).decode("utf-8", "replace"))
    return {
        "name": re.sub(r"[-_.]+", "-", headers["Name"]).lower(),
        "version": headers["Version"],
        "requires": headers.get_all("Requires-Dist") or [],
        "requires_python": headers["Requires-Python"] or "",
        "licences": licences(headers),
    }


def licences(headers: Message) -> list[dict]:
    """Return a package's licences as a bill of materials has them: an expression, or what words there are."""
    if expression := headers["License-Expression"]:
        return [{"expression": expression}]
    named = headers["License"] or ""
    if named and "\n" not in named:  # some put the whole text there
        return [{"license": {"name": named}}]
    classifiers = [line for line in headers.get_all("Classifier") or [] if line.startswith("License :: ")]
    return [{"license": {"name": line.rsplit(" :: ", 1)[-1]}} for line in classifiers]
