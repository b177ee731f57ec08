"""Resolve what a release requires into a hashed lock for the target's Python."""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.release_archive import sha256_file
from ansible.module_utils.release_lock import RELOCK, Lock, Target, for_target, parse_lock, unmet
from ansible.module_utils.release_origin import PackageOrigin
from ansible.module_utils.release_source import Refused, Tree
from ansible.module_utils.release_tools import happened, run, tail, write_text
from ansible.module_utils.release_wheel import scm_settings

# Platforms that uv can resolve for; a newer glibc takes what is made for an older one.
UV_GLIBC = (17, 28, *range(31, 41))
# What a lock depends on; everything else in a source leaves it as it is.
REQUIREMENT_FILES = re.compile(
    r"pyproject\.toml|setup\.(py|cfg)|uv\.toml|.*(requirements|constraints).*|.*\.in"
)
# What uv says, and what helps. `{python}` is the target's, `{what}` the package that uv names.
ADVICE = (
    (
        r"client error|Failed to fetch|error sending request|network was disabled|dns error|timed out",
        "the package index cannot be reached. Try again when it can, or see uv's index settings"
        " (UV_DEFAULT_INDEX, uv.toml). An exact version (==) that was resolved here before, or an app_lock,"
        " is not asked for again",
    ),
    (
        r"(?P<what>\S+) was not found in the (package registry|provided package locations|cache)",
        "the index has no package `{what}`. Compare the spelling, or see uv's index settings if it is on an"
        " index of your own",
    ),
    (
        r"requested Python version|requires Python|Python requirement",
        "there is no version for {python}. Name one that is, or deploy to a Debian whose Python it wants",
    ),
    (
        r"(?P<what>\S+) has no wheels with",
        "{what} has no wheel for {python} and its libc, and nothing to build one from. Name a version that"
        " has one",
    ),
    (r"there (is|are) (no|only the following) versions?", "there is no such version. Name one that there is"),
    (
        r"no trusted hash was provided for: .(?P<what>[\w.-]+)",
        "{what}, which something is built with, is not in the lock of build systems. Lock them with"
        " `uv pip compile --generate-hashes`, and name that file in app_build_lock",
    ),
    (
        r"Failed to build .?(?P<what>[\w.=-]+)",
        "{what} has no wheel for {python}, and its source does not build here: it wants a compiler, or a"
        " library. Name a version, or a package, that has wheels; app_extra_packages and"
        " app_package_overrides choose among versions of what the app itself requires",
    ),
    (
        r"unsatisfiable",
        "requirements contradict each other. If one is too strict, overrule it in app_package_overrides",
    ),
)


@dataclass(frozen=True)
class Wanted:
    """What a lock is for: projects built here, requirements beside theirs, and those that overrule others."""

    trees: tuple[Tree, ...]
    package: PackageOrigin | None
    extras: tuple[str, ...]
    overrides: tuple[str, ...]

    @property
    def requirements(self) -> list[str]:
        """The requirements that stand in no project's files."""
        return [*([self.package.requirement] if self.package else []), *self.extras]

    @property
    def is_settled(self) -> bool:
        """Whether a resolution may be used again: an open requirement for the app asks for the newest."""
        return self.package is None or self.package.is_exact

    @property
    def own_names(self) -> frozenset[str]:
        """The names of the projects built here, where their pyproject.toml tells."""
        packages = [tree for tree in self.trees if tree.is_package]
        names = (tree.pyproject().get("project", {}).get("name", "") for tree in packages)
        return frozenset(re.sub(r"[-_.]+", "-", name).lower() for name in names if name)

    def roots(self) -> dict[str, dict]:
        """Return the requirements that an inventory states, in the shape of packages' metadata."""
        package = [self.package.requirement] if self.package else []
        return {
            "app_source": {"version": "", "requires": package},
            "app_extra_packages": {"version": "", "requires": list(self.extras)},
        }


def given_lock(path: Path, wanted: Wanted, target: Target) -> Lock:
    """Return the lock that the user keeps.

    Raises Refused when it lacks what the inventory asks for: nothing is added to somebody's lock.
    """
    if not path.is_file():
        raise Refused(f"lock {path} is not there; {RELOCK}, or leave it empty")
    lock = parse_lock(path.read_text("utf-8"), str(path), wanted.own_names)
    problems = unmet(wanted.roots(), for_target(lock, target), target, wanted.overrides)
    if problems:
        raise Refused(
            f"lock {path}: {'; '.join(problems)}. Add it to what the lock is made from and lock again,"
            " or leave app_lock empty and have it resolved"
        )
    return lock


def made_lock(
    folder: Path, wanted: Wanted, target: Target, uv: str, python: str, build_lock: str, since: float = 0
) -> Lock:
    """Return a lock made from the requirements, the same as long as they stay the same.

    `folder` keeps the locks; uv resolves, with `python` and what `build_lock` holds for projects whose
    metadata must be built. Open requirements are resolved anew unless that was done at `since`, in seconds
    since the epoch, or later.
    """
    path = folder / f"{lock_key(wanted, target)}.txt"
    if not path.is_file() or not (wanted.is_settled or happened(path, since)):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, compile_lock(wanted, target, uv, python, build_lock))
    return parse_lock(path.read_text(), f"of {wanted.trees[0].where}", wanted.own_names)


def lock_key(wanted: Wanted, target: Target) -> str:
    """Return a name for everything that a resolution depends on, the index aside."""
    words = [target.full, target.platform]
    words += [json.dumps([wanted.requirements, wanted.overrides])]
    for tree in wanted.trees:
        names = [name for name in tree.names if REQUIREMENT_FILES.fullmatch(name.rsplit("/", 1)[-1])]
        words += [json.dumps([name, sha256_file(tree.root / name)]) for name in names]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]


def compile_lock(wanted: Wanted, target: Target, uv: str, python: str, build_lock: str) -> str:
    """Resolve for the target, and return the text of the lock."""
    with tempfile.TemporaryDirectory(prefix="release-lock-") as scratch:
        folder = Path(scratch)
        listed = []
        for number, tree in enumerate(wanted.trees):
            tree.copy(folder / str(number))
            listed += requirement_words(tree, folder / str(number))
        written = [*(word for word in listed if " @ " in word), *wanted.requirements]
        (folder / "own.in").write_text("".join(f"{word}\n" for word in written))
        (folder / "overrides.in").write_text("".join(f"{word}\n" for word in wanted.overrides))
        command = [uv, "pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate"]
        command += ["--require-build-hashes", "--build-constraints", build_lock]
        command += ["--no-sources", "--python", python, "--overrides", str(folder / "overrides.in")]
        command += ["--python-version", target.full, "--python-platform", uv_platform(target)]
        command += [word for name in sorted(wanted.own_names) for word in ("--no-emit-package", name)]
        command += [str(folder / "own.in"), *(word for word in listed if " @ " not in word)]
        # A project may say in its own folder which index it uses.
        here = folder / "0" if wanted.trees[0].names else folder
        done = run(command, here, **scm_settings(wanted.trees[0]))
    if done.returncode:
        said = tail(done.stderr.replace(scratch, ""))
        raise Refused(f"uv could not resolve the requirements: {advice(said, target)}. uv says:\n{said}")
    return done.stdout


def advice(said: str, target: Target) -> str:
    """Return what a failure of uv means, and what to do."""
    for pattern, words in ADVICE:
        match = re.search(pattern, said)
        if match:
            return words.format(python=f"Python {target.python}", what=match.groupdict().get("what"))
    return "see what it says"


def requirement_words(tree: Tree, copy: Path) -> list[str]:
    """Return what uv resolves for a project: itself by path, or the files that hold its requirements."""
    if not tree.names:
        return []
    name = tree.pyproject().get("project", {}).get("name")
    if tree.is_package and name:
        return [f"{name} @ {copy.as_uri()}"]
    candidates = ("requirements.txt", "pyproject.toml")
    for candidate in ("setup.py", "pyproject.toml") if tree.is_package else candidates:
        if candidate in tree.names:
            return [str(copy / candidate)]
    raise Refused(
        f"{tree.where} has neither requirements.txt nor pyproject.toml: its dependencies are unknown"
    )


def uv_platform(target: Target) -> str:
    """Return the nearest platform that uv knows by name."""
    if target.machine not in ("x86_64", "aarch64"):
        return "linux"
    return f"{target.machine}-manylinux_2_{max(minor for minor in UV_GLIBC if minor <= target.glibc_minor)}"
