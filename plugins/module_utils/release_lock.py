"""Turn a hashed lock into wheel files for the target's Python."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ansible.module_utils.release_archive import normalise_wheel, sha256_file, wheel_metadata
from ansible.module_utils.release_source import Refused
from ansible.module_utils.release_tools import run, tail, unlocked, without_userinfo, write_text

try:
    from packaging.markers import InvalidMarker, Marker
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.tags import compatible_tags, cpython_tags
    from packaging.utils import canonicalize_name, parse_wheel_filename
except ImportError:  # said by require_packaging, in words
    Marker = None

# Counts what wheel_metadata returns: with another count what was noted before is read anew.
METADATA = 2
HASH = re.compile(r"--hash[= ](\w+:[0-9a-f]+)")
NO_WHEEL = re.compile(r"No matching distribution found for ([A-Za-z0-9._-]+)")
OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
LEAST_GLIBC = {"x86_64": 5}  # other machines came with glibc 2.17
UNREACHABLE = re.compile(
    r"Failed to establish a new connection|Connection refused|NameResolutionError|[Tt]imed? ?out|"
    r"Network is unreachable|Failed to resolve"
)
RELOCK = "make one with `uv pip compile --generate-hashes`"


def require_packaging() -> None:
    """Refuse an interpreter without `packaging`; the one Ansible itself runs with has it."""
    if Marker is None:
        raise Refused(
            "release_build needs the Python package `packaging`: run the task on localhost with"
            ' `ansible_python_interpreter: "{{ ansible_playbook_python }}"`'
        )


@dataclass(frozen=True)
class Target:
    """The Python and platform that wheels are for."""

    python: str
    machine: str
    glibc: str

    def __post_init__(self) -> None:
        """Raise Refused for versions of another shape."""
        if not re.fullmatch(r"3\.\d+(\.\d+)?", self.python):
            raise Refused(
                f"python_version is `{self.python}`: wanted is the target's, such as 3.13 or 3.13.5"
            )
        if not re.fullmatch(r"2\.\d+", self.glibc):
            raise Refused(f"glibc is `{self.glibc}`: wanted is the target's, such as 2.41")

    @property
    def minor(self) -> str:
        """Python's version as `3.13`."""
        return ".".join(self.python.split(".")[:2])

    @property
    def full(self) -> str:
        """Python's version as `3.13.5`; where only the line is known its first one, as uv takes it."""
        return self.python if self.python.count(".") == 2 else f"{self.python}.0"

    @property
    def platform(self) -> str:
        """The newest wheel platform that the target takes."""
        return f"manylinux_2_{self.glibc_minor}_{self.machine}"

    @property
    def glibc_minor(self) -> int:
        """The glibc's minor version; the major one has been 2 since wheels exist."""
        return int(self.glibc.split(".")[1])

    def platforms(self) -> list[str]:
        """Return every wheel platform that the target takes, the best first."""
        found = []
        for minor in range(self.glibc_minor, LEAST_GLIBC.get(self.machine, 17) - 1, -1):
            found.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in OLD_NAMES:
                found.append(f"{OLD_NAMES[minor]}_{self.machine}")
        return found

    def tags(self) -> frozenset:
        """Return every wheel tag that the target takes."""
        version = tuple(int(part) for part in self.minor.split("."))
        interpreter = f"cp{version[0]}{version[1]}"
        platforms = self.platforms()
        return frozenset(
            [
                *cpython_tags(version, [interpreter], platforms),
                *compatible_tags(version, interpreter, platforms),
            ]
        )

    def environment(self) -> dict[str, str]:
        """Return the values of environment markers on the target. pip would take the controller's."""
        return {
            "implementation_name": "cpython",
            "implementation_version": self.full,
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": self.full,
            "python_version": self.minor,
            "sys_platform": "linux",
            "extra": "",
        }

    def takes(self, requires_python: str) -> bool:
        """Tell whether `Requires-Python` allows the target, or any of its line where only that is known."""
        try:
            allowed = SpecifierSet(requires_python)
        except InvalidSpecifier:
            return True
        candidates = [self.full] if self.python == self.full else [self.full, f"{self.minor}.99"]
        return any(allowed.contains(candidate, prereleases=True) for candidate in candidates)


@dataclass(frozen=True)
class Entry:
    """One requirement of a lock, marker aside."""

    name: str
    requirement: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    @property
    def line(self) -> str:
        """The requirement as pip reads it, for this target: no marker."""
        return " ".join([self.requirement, *(f"--hash={value}" for value in self.hashes)])


@dataclass(frozen=True)
class Lock:
    """A hashed lock: its entries, and the index options it holds."""

    entries: tuple[Entry, ...]
    options: tuple[str, ...]


@dataclass(frozen=True)
class Wheel:
    """A wheel file and its digest."""

    path: Path
    sha256: str

    @property
    def name(self) -> str:
        """The package's name, as locks write it."""
        return parse_wheel_filename(self.path.name)[0]

    @property
    def requirement(self) -> str:
        """The line that installs this very file."""
        name, version = parse_wheel_filename(self.path.name)[:2]
        return f"{name}=={version} --hash=sha256:{self.sha256}"

    @cached_property
    def metadata(self) -> dict:
        """What it says of itself, read once: its folder is named by its content, and has nobody else's file.

        A release has some hundred wheels, and to look into all of them takes longer than to build a change.
        """
        noted = self.path.with_name(f"metadata-{METADATA}.json")
        if not noted.is_file():
            write_text(noted, json.dumps(wheel_metadata(self.path)))
        return json.loads(noted.read_text())


def parse_lock(text: str, where: str, own: frozenset[str] = frozenset()) -> Lock:
    """Read a hashed requirements file.

    Lines for `own` packages, and local paths such as `-e .`, are passed over: their wheels are built here.
    Raises Refused for an entry that is not pinned and hashed; all of them are named at once.
    """
    entries, options, problems = [], [], []
    for line in logical_lines(text):
        if line.startswith(("-e ", "--editable", "./", "../", ".", "/", "file:")):
            continue
        if line.startswith("-"):
            keep_option(line, options, problems)
            continue
        try:
            entry = parse_entry(line)
        except (InvalidRequirement, InvalidMarker) as error:
            problems.append(f"`{line[:80]}` does not parse ({error})")
            continue
        if entry.name in own:
            continue
        problems += [f"{entry.name} has no hash"] if not entry.hashes else []
        problems += [f"{entry.name} is not pinned with =="] if not entry.version else []
        entries.append(entry)
    if problems:
        raise Refused(f"lock {where}: {'; '.join(problems)}. {RELOCK}")
    if not entries:
        raise Refused(f"lock {where} names no package; {RELOCK}")
    return Lock(tuple(entries), tuple(options))


def logical_lines(text: str) -> list[str]:
    """Return requirements without comments, continued lines joined."""
    joined = re.sub(r"\\\r?\n", " ", re.sub(r"(?m)(^|\s)#.*$", "", text))
    return [line.strip() for line in joined.splitlines() if line.strip()]


def keep_option(line: str, options: list[str], problems: list[str]) -> None:
    """Keep the options that say where packages come from; another file would escape the hashes."""
    if line.startswith(("--index-url", "-i ", "--extra-index-url", "--find-links", "-f ", "--trusted-host")):
        options.append(line)
    elif line.startswith(("-r", "-c", "--requirement", "--constraint")):
        problems.append(f"`{line}` includes another file")


def parse_entry(line: str) -> Entry:
    """Return one lock line as an entry."""
    requirement = Requirement(HASH.sub("", line).strip())
    marker = str(requirement.marker or "")
    if requirement.url:
        pinned, version = f"{requirement.name} @ {requirement.url}", requirement.url
    else:
        exact = [spec.version for spec in requirement.specifier if spec.operator in ("==", "===")]
        version = exact[0] if len(requirement.specifier) == 1 and exact and "*" not in exact[0] else ""
        pinned = f"{requirement.name}=={version}"
    hashes = tuple(sorted(HASH.findall(line)))
    return Entry(canonicalize_name(requirement.name), pinned, version, marker, hashes)


def for_target(lock: Lock, target: Target) -> list[Entry]:
    """Return the entries whose markers hold on the target, by name.

    Raises Refused when two entries of one package hold.
    """
    environment = target.environment()
    chosen: dict[str, Entry] = {}
    for entry in lock.entries:
        if entry.marker and not Marker(entry.marker).evaluate(environment):
            continue
        if entry.name in chosen:
            raise Refused(f"the lock names {entry.name} twice for Python {target.full} on {target.platform}")
        chosen[entry.name] = entry
    return [chosen[name] for name in sorted(chosen)]


@dataclass(frozen=True)
class Builder:
    """What sdists are built with: an environment out of hashed wheels, where pip's own would take any."""

    folder: Path
    lock: str
    uv: str
    python: str

    def environment(self) -> str:
        """Return its Python; it is made once for each state of the lock.

        Raises Refused when that fails.
        """
        words = [sha256_file(Path(self.lock)), sys.version]
        place = self.folder / hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]
        python = place / "bin/python"
        if not (place / "whole").is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            install = ["pip", "install", "--quiet", "--require-hashes", "--python", str(python)]
            for command in (
                ["venv", "--quiet", "--clear", "--python", self.python, str(place)],
                [*install, "--requirements", self.lock],
            ):
                done = run([self.uv, *command], self.folder)
                if done.returncode:
                    raise Refused(f"{self.lock} cannot be installed to build with:\n{tail(done.stderr)}")
            (place / "whole").touch()
        return str(python)


class WheelCache:
    """Wheels by digest, and for every locked entry which of its wheels a target takes."""

    def __init__(self, folder: Path, target: Target, python: str, builder: Builder) -> None:
        """Use a folder, a target, the interpreter whose pip downloads, and what builds sdists."""
        self.wheels, self.choices = folder / "wheels", folder / "choices"
        self.target, self.python, self.builder = target, python, builder

    def get(self, lock: Lock) -> list[Wheel]:
        """Return one wheel an entry; download only what no run has downloaded for this target before."""
        entries = for_target(lock, self.target)
        missing = [entry for entry in entries if self._known(entry) is None]
        if missing:
            self._fetch(missing, lock.options)
        found = {entry.name: self._known(entry) for entry in entries}
        if None in found.values():
            raise Refused(f"pip left no wheel of {', '.join(name for name in found if found[name] is None)}")
        return list(found.values())

    def _choice(self, entry: Entry) -> Path:
        words = [entry.name, entry.version, *entry.hashes, self.target.full, self.target.platform]
        return self.choices / f"{hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]}.json"

    def _known(self, entry: Entry) -> Wheel | None:
        choice = self._choice(entry)
        if not choice.is_file():
            return None
        said = json.loads(choice.read_text())
        path = self.wheels / said["sha256"] / said["file"]
        return Wheel(path, said["sha256"]) if path.is_file() else None

    def _remember(self, entry: Entry, path: Path) -> None:
        digest = sha256_file(path)
        kept = self.wheels / digest / path.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        self.choices.mkdir(parents=True, exist_ok=True)
        shutil.move(path, kept)
        self._choice(entry).write_text(json.dumps({"file": path.name, "sha256": digest}))

    def _fetch(self, missing: list[Entry], options: tuple[str, ...]) -> None:
        self.wheels.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.wheels, prefix=".fetch-") as folder:
            without = self._download(missing, options, Path(folder))
            for entry in without:
                self._build(entry, options, Path(folder))
            by_name = {entry.name: entry for entry in missing}
            for path in sorted(Path(folder).glob("*.whl")):
                self._remember(by_name[canonicalize_name(parse_wheel_filename(path.name)[0])], path)

    def _download(self, entries: list[Entry], options: tuple[str, ...], folder: Path) -> list[Entry]:
        """Download wheels and return the entries that have none for the target."""
        words = ["--only-binary=:all:", "--implementation", "cp", "--python-version", self.target.full]
        words += ["--abi", f"cp{self.target.minor.replace('.', '')}", "--dest", str(folder)]
        words += [word for platform in self.target.platforms() for word in ("--platform", platform)]
        wanted, without = list(entries), []
        while wanted:
            done = self._pip("download", words, wanted, options, folder)
            if done.returncode == 0:
                break
            match = NO_WHEEL.search(done.stderr)
            lacking = [entry for entry in wanted if match and entry.name == canonicalize_name(match[1])]
            if not lacking:
                raise Refused(f"pip could not download the locked wheels:\n{pip_says(done)}")
            refuse_unreachable(done)
            without += lacking
            wanted.remove(lacking[0])
        return without

    def _build(self, entry: Entry, options: tuple[str, ...], folder: Path) -> None:
        """Build a wheel from the hash-checked sdist, good for any machine when it is pure Python."""
        with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as scratch:
            words = ["--no-binary", entry.name, "--ignore-requires-python", "--wheel-dir", scratch]
            words += ["--no-build-isolation", "--check-build-dependencies"]
            done = self._pip("wheel", words, [entry], options, folder)
            built = list(Path(scratch).glob("*.whl"))
            if not built or not built[0].name.endswith("-none-any.whl"):
                reason = "its sdist builds for one machine only" if built else f"pip says:\n{pip_says(done)}"
                if advice := unlocked(done.stderr, self.builder.lock):
                    raise Refused(f"{entry.requirement} does not build{advice}; {reason}")
                raise Refused(
                    f"{entry.requirement} has no wheel for Python {self.target.minor} on"
                    f" {self.target.platform}, and none can be built here. Lock a version that has one"
                    " (where no app_lock is given, name it in app_extra_packages), or put a wheel where"
                    f" PIP_FIND_LINKS finds it and its hash into the lock; {reason}"
                )
            normalise_wheel(built[0], folder / built[0].name)

    def _pip(self, verb, words, entries, options, folder) -> subprocess.CompletedProcess:
        listed = folder / "requirements.txt"
        listed.write_text("\n".join([*options, *(entry.line for entry in entries)]) + "\n")
        quiet = ["--quiet", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
        where = ["--python", self.builder.environment()] if verb == "wheel" else []
        command = [self.python, "-m", "pip", *where, verb, *quiet, "--require-hashes", "--no-deps", *words]
        done = subprocess.run([*command, "-r", str(listed)], capture_output=True, text=True, check=False)
        if "No module named pip" in done.stderr:
            raise Refused(f"{self.python} has no pip, which downloads wheels: install pip beside ansible")
        return done


def refuse_unreachable(done: subprocess.CompletedProcess) -> None:
    """Refuse to go on without the index; to pip it is as if no package were there."""
    if UNREACHABLE.search(done.stderr):
        raise Refused(
            "the package index cannot be reached: try again when it can, or see `pip config list`"
            f"\n{without_userinfo(done.stderr.strip().splitlines()[0])}"
        )


def pip_says(done: subprocess.CompletedProcess) -> str:
    """Return the lines of pip's output that explain a failure."""
    lines = [line for line in done.stderr.splitlines() if line.strip() and "WARNING" not in line]
    return without_userinfo("\n".join(lines[-15:]))


def unmet(metadata: dict[str, dict], entries: list[Entry], target: Target, overrides=()) -> list[str]:
    """Return what packages require and the lock does not give.

    `metadata` maps a package to its version and `Requires-Dist` lines; an overriding requirement stands in
    for all others of its name, as in uv. Extras are followed as far as there is metadata.
    """
    locked = {entry.name: entry.version for entry in entries}
    locked.update({name: said["version"] for name, said in metadata.items() if said["version"]})
    replaced = by_name(overrides)
    waiting = [(name, "") for name in metadata]
    seen, problems = set(), set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen or name not in metadata:
            continue
        seen.add((name, extra))
        for asked in requirements(metadata[name], extra, target):
            for requirement in replaced.get(canonicalize_name(asked.name), [asked]):
                if applies(requirement, extra, target):
                    problems.update(judge(name, requirement, locked))
            waiting += [(canonicalize_name(asked.name), wanted) for wanted in asked.extras]
    return sorted(problems)


def by_name(texts) -> dict[str, list]:
    """Return requirements by the name of their package."""
    found: dict[str, list] = {}
    for requirement in map(Requirement, texts):
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def requirements(said: dict, extra: str, target: Target) -> list:
    """Return the requirements of a package that count on the target with an extra, or with none."""
    found = []
    for line in said["requires"]:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # of old packages; uv, which resolved them, has passed it over as well
            continue
        if applies(requirement, extra, target):
            found.append(requirement)
    return found


def applies(requirement, extra: str, target: Target) -> bool:
    """Tell whether a requirement counts on the target with an extra."""
    return requirement.marker is None or requirement.marker.evaluate({**target.environment(), "extra": extra})


def judge(name: str, requirement, locked: dict[str, str]) -> list[str]:
    """Return what is wrong with one requirement, as words."""
    version = locked.get(canonicalize_name(requirement.name))
    if version is None:
        return [f"{name} needs {requirement.name}, which the lock lacks"]
    if "://" not in version and not requirement.specifier.contains(version, prereleases=True):
        return [f"{name} needs {requirement.name}{requirement.specifier}, the lock has {version}"]
    return []
