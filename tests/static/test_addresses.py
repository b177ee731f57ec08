"""What is shipped names no machine of those who wrote it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from bundle import Bundle, law

# Homes and scratch folders of one machine. The boundary in front keeps `/srv/app/tmp/` and `/chroot/` out.
DEVELOPER_PATH = re.compile(r"(?<![\w.}\"'$/-])(?:/root/|/home/\w|/tmp/\w)|[\"'](?:/root/|/home/\w|/tmp/\w)")
CLIENT_VARIABLE = re.compile(r"index|proxy|registry|mirror", re.IGNORECASE)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
URL = re.compile(r"\b(?:https?|mirror\+https?|tor\+https?)://[^\s\"'<>\]]+")
REQUIREMENT = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[^\]]*\])?\s*(?:==|@|[<>=~!;])")
INDEX_OPTION = re.compile(
    r"--(?:extra-)?index(?:-url)?\b|--find-links|--trusted-host|--no-index|^-i\b|^-f\b|\w+://"
)


def output(command: list[str]) -> str:
    """Return what a client prints about its settings; nothing where it is not installed."""
    if not shutil.which(command[0]):
        return ""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout


def client_settings() -> Iterator[str]:
    """Yield the settings of this machine's package clients as text."""
    yield output(["apt-config", "dump"])
    yield output(["pip", "config", "list"])
    yield output([sys.executable, "-c", "import pip._internal.models.index as index; print(index.PyPI.url)"])
    yield output(["npm", "config", "get", "registry"])
    for pattern in ("/etc/apt/sources.list", "/etc/apt/sources.list.d/*", "/etc/npmrc"):
        yield from (
            path.read_text(errors="replace") for path in Path("/").glob(pattern.lstrip("/")) if path.is_file()
        )
    for name in (".npmrc", ".config/uv/uv.toml", ".condarc"):
        if (Path.home() / name).is_file():
            yield (Path.home() / name).read_text(errors="replace")
    yield output(["go", "env", "GOPROXY"])
    yield from (value for name, value in os.environ.items() if CLIENT_VARIABLE.search(name))


def registry_hosts() -> set[str]:
    """Return the hosts that package clients of this machine talk to, their defaults among them."""
    hosts = {urlsplit(url).hostname or "" for text in client_settings() for url in URL.findall(text)}
    return {host for host in hosts if "." in host and host not in LOOPBACK}


@law
def test_no_developers_path_is_shipped(bundle: Bundle):
    # Each with what stands in it: a checkout in /srv must not make every /srv a finding.
    checkout = [f"{bundle.root}/{top}" for top in {path.split("/")[0] for path in bundle.files}]
    for path in bundle.files:
        # A test may speak of the scratch folder of the host it runs on, and so may what makes a guest; what
        # lands on a host may not.
        if path.startswith("tests/") or "/tests/" in path or path == "Vagrantfile":
            continue
        for number, line in enumerate(bundle.text(path).splitlines(), 1):
            if (match := DEVELOPER_PATH.search(line)) or any(place in line for place in checkout):
                seen = match[0].strip("\"'") if match else bundle.root
                yield (
                    f"{path}:{number}: {seen}… is a folder of one machine: "
                    "derive it from the playbook's or the project's"
                )


@law
def test_no_registry_of_this_machine_is_named(bundle: Bundle):
    hosts = registry_hosts()
    for path in [path for path in bundle.files if any(host in bundle.text(path) for host in hosts)]:
        for number, line in enumerate(bundle.text(path).splitlines(), 1):
            if any(host in line for host in hosts):
                yield (
                    f"{path}:{number}: names a registry that only this machine's clients know: "
                    "leave it to their settings"
                )


def locks(bundle: Bundle) -> list[str]:
    return [path for path in bundle.files if path.endswith(".txt") and is_lock(path, bundle.text(path))]


def is_lock(path: str, text: str) -> bool:
    """Say whether a text file is a lock: by where it is, or by a hash in it."""
    return path.startswith("requirements/") or "--hash=" in text


@law
def test_locks_carry_hashes_and_no_index(bundle: Bundle):
    for path in locks(bundle):
        whole = bundle.text(path).replace("\\\n", " ")
        starts = {
            line.split()[0]: number
            for number, line in enumerate(bundle.text(path).splitlines(), 1)
            if line.strip()
        }
        for line in whole.splitlines():
            first = line.split()[0] if line.split() else ""
            if INDEX_OPTION.search(line) and not line.lstrip().startswith("#"):
                yield f"{path}:{starts[first]}: names an index or an address: lock without it (`make lock`)"
            elif REQUIREMENT.match(line) and "--hash=sha256:" not in line:
                yield f"{path}:{starts[first]}: {first} has no hash: lock with hashes (`make lock`)"
            elif REQUIREMENT.match(line) and "==" not in line:
                yield f"{path}:{starts[first]}: {first} is not pinned: lock it (`make lock`)"


@law
def test_no_project_file_names_an_index(bundle: Bundle):
    """uv.lock, and index settings in a pyproject.toml, write one machine's addresses into the repository."""
    for path in bundle.files:
        if path.rpartition("/")[2] in ("uv.lock", "poetry.lock", "Pipfile.lock"):
            yield f"{path}:1: carries index addresses: lock as hashed requirements instead"
        if path.endswith("pyproject.toml") or path.endswith((".cfg", ".ini")):
            for number, line in enumerate(bundle.text(path).splitlines(), 1):
                if re.match(r"\s*(?:\[\[?tool\.uv\.index|(?:extra-)?index-url\s*=|find-links\s*=)", line):
                    yield f"{path}:{number}: names an index: leave it to the client's own settings"
