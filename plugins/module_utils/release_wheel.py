"""Build the wheels of the projects that a release is made of."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

from ansible.module_utils.release_archive import normalise_wheel, sha256_file, wheel_metadata
from ansible.module_utils.release_lock import Target, Wheel
from ansible.module_utils.release_source import Refused, Tree
from ansible.module_utils.release_tools import run, tail, unlocked


def own_wheel(tree: Tree, cache: Path, target: Target, uv: str, python: str, build_lock: str) -> Wheel:
    """Return a project's wheel, built from a copy, once for each state of its files.

    `build_lock` holds what it may be built with.
    Raises Refused when it does not build, or builds what the target could not install.
    """
    version = scm_version(tree)
    key = hashlib.sha256(f"{tree.digest()} {version} {target.minor}".encode()).hexdigest()[:32]
    folder = cache / key
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".build-") as scratch:
            built = build_wheel(tree, Path(scratch), uv, python, build_lock)
            refuse_wrong_wheel(tree, built, target)
            (Path(scratch) / "done").mkdir()
            normalise_wheel(built, Path(scratch) / "done" / built.name)
            (Path(scratch) / "done").rename(folder)
    (path,) = folder.glob("*.whl")
    return Wheel(path, sha256_file(path))


def scm_version(tree: Tree) -> str:
    """Return the version for projects that take theirs from git, which the copy leaves behind.

    The last tag's, and not the revision's: the same content must stay the same release.
    """
    tag = tree.identity.tag.removeprefix("v")
    return tag if re.fullmatch(r"\d+(\.\d+)*", tag) else "0"


def scm_settings(tree: Tree) -> dict[str, str]:
    """Return the environment in which such a project builds; a version of the user's own comes first."""
    name = "SETUPTOOLS_SCM_PRETEND_VERSION"
    return {name: os.environ.get(name, scm_version(tree))}


def build_wheel(tree: Tree, scratch: Path, uv: str, python: str, build_lock: str) -> Path:
    """Build a wheel, without the network where uv is the build system itself, or has it in its cache."""
    tree.copy(scratch / "source")
    command = [uv, "build", "--quiet", "--wheel", "--no-sources", "--python", python, "--require-hashes"]
    command += ["--out-dir", str(scratch / "wheel"), str(scratch / "source")]
    # With constraints uv takes even itself from the index: it builds uv_build's projects without them first.
    constraints = ["--build-constraints", build_lock]
    for words in (["--offline"], ["--offline", *constraints], constraints):
        done = run([*command, *words], scratch, **scm_settings(tree))
        if done.returncode == 0:
            (wheel,) = (scratch / "wheel").glob("*.whl")
            return wheel
    raise Refused(f"{tree.where} does not build{unlocked(done.stderr, build_lock)}:\n{tail(done.stderr)}")


def refuse_wrong_wheel(tree: Tree, wheel: Path, target: Target) -> None:
    """Refuse a wheel that the target could not install."""
    if not wheel.name.endswith("-none-any.whl"):
        raise Refused(
            f"{tree.where} builds {wheel.name}, which is for the controller's machine:"
            f" only pure Python can be built here for {target.platform}"
        )
    requires = wheel_metadata(wheel)["requires_python"]
    if not target.takes(requires):
        raise Refused(f"{tree.where} requires Python {requires}, the target has {target.python}")
