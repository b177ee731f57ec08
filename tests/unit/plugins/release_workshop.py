"""A workshop for release_build: projects, repositories, and an index in a folder instead of the network."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from ansible_project import PLUGINS

sys.path.insert(0, str(PLUGINS / "modules"))

import release_build
from ansible.module_utils.release_source import Refused

PYPROJECT = """
[project]
name = "{name}"
version = "1.0"
requires-python = ">=3.11"
dependencies = {dependencies}
[build-system]
requires = ["uv_build>=0.8,<1"]
build-backend = "uv_build"
"""


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def package(folder: Path, name: str, dependencies=(), **files: str) -> Path:
    text = PYPROJECT.format(name=name, dependencies=json.dumps(list(dependencies)))
    return write(folder, {"pyproject.toml": text, f"src/{name}/__init__.py": "", **files})


def wheel(
    folder: Path, name: str, tag: str = "py3-none-any", version: str = "1.0", headers: str = "", **files: str
) -> str:
    """Put a small wheel into an index folder and return its lock hash.

    `headers` are further lines of its metadata, such as `Requires-Dist: …`; `files` lie in its package.
    """
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    members = {
        f"{name}/wsgi.py": "app = 1\n",
        **{f"{name}/{inner}": content for inner, content in files.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{headers}",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{info}/RECORD": f"{info}/RECORD,,\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in members.items():
            archive.writestr(zipfile.ZipInfo(inner), text)
    return f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


BACKEND = """
import zipfile
def build_wheel(folder, settings=None, metadata=None):
    name = "{name}-1.0-{tag}.whl"
    with zipfile.ZipFile(f"{{folder}}/{{name}}", "w") as archive:
        info = "{name}-1.0.dist-info"
        archive.writestr(f"{{info}}/METADATA", "Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n")
        archive.writestr(f"{{info}}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: {tag}\\n")
        archive.writestr(f"{{info}}/RECORD", "")
    return name
"""


def sdist(folder: Path, name: str, tag: str, requires=()) -> str:
    """Put a small sdist into an index folder, with a build system of its own, and return its lock hash."""
    path = folder / f"{name}-1.0.tar.gz"
    files = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        "pyproject.toml": f"[build-system]\nrequires = {json.dumps(list(requires))}\n"
        'build-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND.format(name=name, tag=tag),
    }
    with tarfile.open(path, "w:gz") as archive:
        for inner, content in files.items():
            member = tarfile.TarInfo(f"{name}-1.0/{inner}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content.encode()))
    return f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def git(folder: Path, *words: str) -> str:
    """Return what git prints."""
    identity = ["-c", "user.name=x", "-c", "user.email=x@localhost", "-c", "protocol.file.allow=always"]
    command = ["git", "-C", str(folder), *identity, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


class Workshop:
    """A project `inbox`, a local package `ops`, and an index in a folder instead of the network."""

    def __init__(self, path: Path):
        self.path, self.index, self.cache = path, path / "index", path / "cache"
        self.index.mkdir()
        self.lock = path / "lock.txt"
        self.lock.write_text(f"dep==1.0 {wheel(self.index, 'dep')}\n")
        files = {
            "src/inbox/wsgi.py": "from inbox import x\napp = object()\n",
            "src/inbox/static/a.css": "a{}",
            "src/inbox/static/deep/b.js": "b",
            "tests/test_x.py": "",
        }
        self.source = package(path / "inbox", "inbox", ["dep", "ops"], **files)
        self.ops = package(path / "ops", "ops")

    def params(self, **changed):
        params = {
            "state": "build",
            "app_name": "inbox",
            "source": str(self.source),
            "wsgi": "inbox.wsgi:app",
            "lock": str(self.lock),
            "build_lock": str(PLUGINS.parent / "requirements/build.txt"),
            "extra_packages": [],
            "package_overrides": [],
            "local_packages": [str(self.ops)],
            "static_dir": "inbox/static",
            "migrate_command": "flask db upgrade",
            "celery": "",
            "beat_scheduler": "",
            "python_version": "3.13",
            "machine": "x86_64",
            "glibc": "2.41",
            "cache_dir": str(self.cache),
            "known_releases": [],
            "built_by": "",
            "host": "",
            "since": 0.0,
            "controller_python": sys.executable,
            "uv": "",
        }
        return {**params, **changed}

    def build(self, **changed):
        return release_build.work(self.params(**changed))

    def commit(self, folder=None) -> str:
        """Commit everything in a folder and return the commit."""
        folder = folder or self.source
        git(folder, "init", "-q")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", "x", "--allow-empty")
        return git(folder, "rev-parse", "HEAD")


def copy_cache(source: Path, target: Path, *names: str) -> str:
    for name in names:
        shutil.copytree(source / name, target / name)
    return str(target)


def contents(archive: str) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def refused(call, *arguments, **changed) -> str:
    with pytest.raises(Refused) as caught:
        call(*arguments, **changed)
    return str(caught.value)
