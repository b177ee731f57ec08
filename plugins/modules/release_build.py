#!/usr/bin/python
"""Build the two archives of a release on the controller."""

from __future__ import annotations

import contextlib
import difflib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.release_archive import (
    EPOCH,
    Member,
    canonical_json,
    environment_file,
    normalise_wheel,
    sha256_file,
    wheel_contents,
    wheel_files,
    wheel_metadata,
    wheel_read,
    write_tar,
)
from ansible.module_utils.release_lock import (
    Entry,
    Lock,
    Target,
    Wheel,
    WheelCache,
    for_target,
    parse_lock,
    require_packaging,
    unmet,
)
from ansible.module_utils.release_source import (
    Refused,
    Tree,
    check_entry,
    modules,
    read_tree,
    split_wsgi,
)

DOCUMENTATION = r"""
---
module: release_build
short_description: Build the archives of a release on the controller
version_added: "1.0"
description:
  - Builds a project and its locked dependencies into two archives for the target's Python, so that a host
    needs no package index, no compiler and no git.
  - C(deps-<deps id>.tar) holds the dependencies' wheels, C(release-<id>.tar) the project's own, its plain
    tree where it is not a package, its static files, C(release.json) and C(release.env).
  - The same content is the same release. Building it again returns the release that exists.
  - Run it on the controller, with the interpreter that runs Ansible.
  - The source is copied before it is built. Nothing is written outside of O(cache_dir), in check mode too.
options:
  state:
    description:
      - V(build) builds. V(check) refuses at once whatever can be refused without building.
    type: str
    choices: [build, check]
    default: build
  app_name:
    description: Name of the app.
    type: str
    required: true
  source:
    description:
      - Folder of the project. With a build system in its C(pyproject.toml), or a C(setup.py), it becomes a
        wheel, otherwise a plain tree below C(src/).
      - In a git checkout the files are those that git tracks or would track, otherwise all but virtual
        environments, caches and build folders. A file named C(.env) is never taken.
    type: path
    required: true
  wsgi:
    description: The WSGI app, V(module:name), or V(module:name(\)) for a factory.
    type: str
    required: true
  lock:
    description:
      - Hashed requirements file. Empty means to make one from the source's requirements, once for each
        state of them. A lock of your own keeps versions until you change it.
      - Lines for the project itself, for O(local_packages) and for local paths are passed over.
    type: path
    default: ""
  local_packages:
    description: Folders of further projects whose wheels belong to the release.
    type: list
    elements: path
    default: []
  static_dir:
    description: Folder inside the project's wheel or plain tree whose files nginx serves, such as
      V(inbox/static). Empty means none.
    type: str
    default: ""
  migrate_command:
    description: Command that migrates the database, for C(release.env). One line.
    type: str
    default: ""
  python_version:
    description: Python of the target, V(3.13) or, where it is known, V(3.13.5).
    type: str
    required: true
  machine:
    description: Machine of the target, as C(uname -m) says it.
    type: str
    default: x86_64
  glibc:
    description: Version of the target's C library, such as V(2.41).
    type: str
    required: true
  cache_dir:
    description: Folder for wheels, locks and archives. It may be removed at any time.
    type: path
    required: true
  known_releases:
    description: Releases that hosts already have, each with C(id) and C(digest).
    type: list
    elements: dict
    default: []
  built_by:
    description: Who builds.
    type: str
    default: ""
  controller_python:
    description: Interpreter whose pip downloads wheels, and which builds. Empty means the one that runs this.
    type: path
    default: ""
  uv:
    description: The uv to build with. Empty means the one beside O(controller_python), or on C(PATH).
    type: path
    default: ""
requirements:
  - packaging, and pip for the controller's Python
  - uv
  - git, for a source that is a checkout
attributes:
  check_mode:
    support: full
    description: The archives are built into O(cache_dir) as always, so that later tasks can be previewed.
  diff_mode:
    support: none
"""

EXAMPLES = r"""
- name: Build the release
  release_build:
    app_name: inbox
    source: "{{ playbook_dir }}/../app_skeleton/inbox"
    wsgi: inbox.wsgi:app
    lock: "{{ playbook_dir }}/../app_skeleton/inbox/requirements.txt"
    local_packages: ["{{ playbook_dir }}/../app_skeleton/flask_ops"]
    static_dir: inbox/static
    migrate_command: flask --app inbox.wsgi db upgrade
    python_version: "3.13"
    glibc: "2.41"
    cache_dir: "{{ playbook_dir }}/../.cache/build"
  delegate_to: localhost
  run_once: true
  become: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  register: __release_build
"""

RETURN = r"""
id:
  description: The release id.
  type: str
  returned: state is build
  sample: 20260723T083000Z-1f2e3d4
digest:
  description: sha256 over the release's content. Two builds with the same digest are the same release.
  type: str
  returned: state is build
release_archive:
  description: Path of the release's archive.
  type: str
  returned: state is build
deps_id:
  description: Id of the dependencies, over the wheels they are, Python and platform.
  type: str
  returned: state is build
deps_archive:
  description: Path of the dependencies' archive.
  type: str
  returned: state is build
changed:
  description: Whether this content was built for the first time.
  type: bool
  returned: always
revision:
  description: The source's commit, empty outside of git.
  type: str
  returned: always
ref:
  description: The source's branch, or its tag.
  type: str
  returned: always
dirty:
  description: Whether the source differs from its commit.
  type: bool
  returned: always
kind:
  description: How the source is shipped, C(package) or C(tree).
  type: str
  returned: always
duration_seconds:
  description: How long each phase took.
  type: dict
  returned: always
"""

APP_NAME = re.compile(r"[a-z](?:[a-z0-9_-]{0,28}[a-z0-9])?")
# Platforms that uv can resolve for; a newer glibc takes what is made for an older one.
UV_GLIBC = (17, 28, *range(31, 41))
# What a lock depends on; everything else in a source leaves it as it is.
REQUIREMENT_FILES = re.compile(
    r"pyproject\.toml|setup\.(py|cfg)|uv\.toml|.*(requirements|constraints).*|.*\.in"
)


@dataclass
class Clock:
    """How long each phase took, in seconds."""

    phases: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str):
        """Time a block."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = round(time.monotonic() - began, 3)


@dataclass
class Build:
    """One run: its parameters, read once, and what all steps share."""

    params: dict
    clock: Clock
    target: Target
    tree: Tree
    local: list[Tree]

    @property
    def cache(self) -> Path:
        """The cache's folder."""
        return Path(self.params["cache_dir"])

    @property
    def python(self) -> str:
        """The controller's Python."""
        return self.params["controller_python"] or sys.executable

    @property
    def uv(self) -> str:
        """The uv to run.

        Raises Refused when there is none.
        """
        beside = os.pathsep.join([str(Path(self.python).parent), os.environ.get("PATH", os.defpath)])
        found = self.params["uv"] or shutil.which("uv", path=beside)
        if not found:
            raise Refused(
                f"uv is neither beside {self.python} nor on PATH: install the controller's requirements"
            )
        return found

    @property
    def packages(self) -> list[Tree]:
        """The projects that become wheels."""
        return [tree for tree in [self.tree, *self.local] if tree.is_package]


def start(params: dict) -> Build:
    """Read and check everything that costs nothing."""
    require_packaging()
    if not APP_NAME.fullmatch(params["app_name"]):
        raise Refused(f"app_name is `{params['app_name']}`: wanted are a to z, 0 to 9, - and _, 30 at most")
    if any(ord(character) < 32 for character in params["migrate_command"]):
        raise Refused("migrate_command must be one line")
    split_wsgi(params["wsgi"])
    target = Target(params["python_version"], params["machine"], params["glibc"])
    clock = Clock()
    with clock.phase("source"):
        tree = read_tree(Path(params["source"]))
        local = [read_tree(Path(path)) for path in params["local_packages"]]
    for package in local:
        if not package.is_package:
            raise Refused(f"local_packages: {package.root} has neither a build system nor a setup.py")
    return Build(params, clock, target, tree, local)


def check(build: Build) -> None:
    """Refuse what can be refused before anything is built."""
    requires = build.tree.pyproject().get("project", {}).get("requires-python", "")
    if requires and not build.target.takes(requires):
        raise Refused(f"{build.tree.root} requires Python {requires}, the target has {build.target.python}")
    if build.params["lock"]:
        for_target(given_lock(build), build.target)
    ours = {}
    for tree in [build.tree, *build.local]:
        ours.update(source_modules(tree))
    check_entry(build.params["wsgi"], ours, None, str(build.tree.root))


def source_modules(tree: Tree) -> dict[str, str]:
    """Return a source's modules and their text, as they are importable once installed or from `src/`."""
    roots = [""]
    if tree.is_package and any(name.startswith("src/") for name in tree.names):
        roots = ["src/"]
    names = [(root, name) for root in roots for name in tree.names if name.startswith(root)]
    found = {}
    for root, name in names:
        for module in modules([name.removeprefix(root)]):
            found[module] = (tree.root / name).read_text("utf-8", "replace") if name.endswith(".py") else ""
    return found


def own_names(build: Build) -> frozenset[str]:
    """Return the names of the projects built here, where their pyproject.toml tells."""
    names = (tree.pyproject().get("project", {}).get("name", "") for tree in build.packages)
    return frozenset(re.sub(r"[-_.]+", "-", name).lower() for name in names if name)


def given_lock(build: Build) -> Lock:
    """Return the lock that the task names."""
    path = Path(build.params["lock"])
    if not path.is_file():
        raise Refused(
            f"lock {path} is not there; make one with `uv pip compile --generate-hashes`, or leave it empty"
        )
    return parse_lock(path.read_text("utf-8"), str(path), own_names(build))


def made_lock(build: Build) -> Lock:
    """Return a lock made from the source's requirements, the same as long as they stay the same."""
    words = [build.target.full, build.target.platform]
    for tree in [build.tree, *build.local]:
        names = [name for name in tree.names if REQUIREMENT_FILES.fullmatch(name.rsplit("/", 1)[-1])]
        words += [json.dumps([name, sha256_file(tree.root / name)]) for name in names]
    path = build.cache / "locks" / f"{hashlib.sha256(json.dumps(words).encode()).hexdigest()[:32]}.txt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, compile_lock(build))
    return parse_lock(path.read_text(), f"of {build.tree.root}", own_names(build))


def compile_lock(build: Build) -> str:
    """Resolve the requirements of the source and the local packages for the target."""
    with tempfile.TemporaryDirectory(prefix="release-lock-") as scratch:
        folder = Path(scratch)
        listed, command = [], [build.uv, "pip", "compile", "--quiet", "--generate-hashes", "--no-header"]
        command += ["--no-annotate", "--no-sources", "--python", build.python]
        command += ["--python-version", build.target.full, "--python-platform", uv_platform(build.target)]
        for number, tree in enumerate([build.tree, *build.local]):
            copy = folder / str(number)
            tree.copy(copy)
            listed += requirement_words(tree, copy)
        for name in sorted(own_names(build)):
            command += ["--no-emit-package", name]
        (folder / "own.in").write_text("\n".join(word for word in listed if " @ " in word) + "\n")
        command += [str(folder / "own.in"), *(word for word in listed if " @ " not in word)]
        done = run(command, folder / "0")
        if done.returncode:
            raise Refused(f"uv could not resolve the requirements of {build.tree.root}:\n{tail(done.stderr)}")
        return done.stdout


def requirement_words(tree: Tree, copy: Path) -> list[str]:
    """Return what uv resolves for a project: itself by path, or the files that hold its requirements."""
    if tree.is_package:
        name = tree.pyproject().get("project", {}).get("name")
        return [f"{name} @ {copy.as_uri()}" if name else str(copy / "setup.py")]
    for candidate in ("requirements.txt", "pyproject.toml"):
        if candidate in tree.names:
            return [str(copy / candidate)]
    raise Refused(
        f"{tree.root} has neither requirements.txt nor pyproject.toml: its dependencies are unknown"
    )


def uv_platform(target: Target) -> str:
    """Return the nearest platform that uv knows by name."""
    if target.machine not in ("x86_64", "aarch64"):
        return "linux"
    return f"{target.machine}-manylinux_2_{max(minor for minor in UV_GLIBC if minor <= target.glibc_minor)}"


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a tool in a folder, in an environment where nothing but the command chooses a Python."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONPATH")}
    settings = {**inherited, "UV_PYTHON_DOWNLOADS": "never", "SOURCE_DATE_EPOCH": str(EPOCH), **environment}
    return subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True, check=False)


def tail(output: str) -> str:
    """Return the end of a tool's output, where the cause is."""
    return "\n".join(output.strip().splitlines()[-20:])


def write_text(path: Path, text: str) -> None:
    """Write a file that is never seen half-written."""
    unfinished = path.with_name(f".{path.name}.part")
    unfinished.write_text(text)
    unfinished.rename(path)


def own_wheel(build: Build, tree: Tree) -> Wheel:
    """Return a project's wheel, built from a copy, once for each state of its files."""
    version = scm_version(tree)
    key = hashlib.sha256(f"{tree.digest()} {version} {build.target.minor}".encode()).hexdigest()[:32]
    folder = build.cache / "built" / key
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".build-") as scratch:
            built = build_wheel(build, tree, Path(scratch), version)
            refuse_wrong_wheel(build, tree, built)
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


def build_wheel(build: Build, tree: Tree, scratch: Path, version: str) -> Path:
    """Build a wheel, without the network where uv's cache has the build system."""
    tree.copy(scratch / "source")
    command = [build.uv, "build", "--quiet", "--wheel", "--no-sources", "--python", build.python]
    command += ["--out-dir", str(scratch / "wheel"), str(scratch / "source")]
    version = os.environ.get("SETUPTOOLS_SCM_PRETEND_VERSION", version)
    for words in (["--offline"], []):
        done = run([*command, *words], scratch, SETUPTOOLS_SCM_PRETEND_VERSION=version)
        if done.returncode == 0:
            (wheel,) = (scratch / "wheel").glob("*.whl")
            return wheel
    raise Refused(f"{tree.root} does not build:\n{tail(done.stderr)}")


def refuse_wrong_wheel(build: Build, tree: Tree, wheel: Path) -> None:
    """Refuse a wheel that the target could not install."""
    if not wheel.name.endswith("-none-any.whl"):
        raise Refused(
            f"{tree.root} builds {wheel.name}, which is for the controller's machine:"
            f" only pure Python can be built here for {build.target.platform}"
        )
    requires = wheel_metadata(wheel)["requires_python"]
    if not build.target.takes(requires):
        raise Refused(f"{tree.root} requires Python {requires}, the target has {build.target.python}")


def refuse_unmet(wheels: list[Wheel], entries: list[Entry], target: Target) -> None:
    """Refuse a lock that lacks what the release's own wheels require."""
    said = [wheel_metadata(wheel.path) for wheel in wheels]
    problems = unmet({metadata["name"]: metadata for metadata in said}, entries, target)
    if problems:
        raise Refused(f"the lock does not fit: {'; '.join(problems)}. Lock again")


def refuse_wrong_entry(build: Build, wheels: list[Wheel], deps: list[Wheel]) -> None:
    """Refuse a WSGI entry that is neither in the release nor in its dependencies."""
    wsgi = build.params["wsgi"]
    ours = {} if build.tree.is_package else source_modules(build.tree)
    for wheel in wheels:
        files = wheel_files(wheel.path)
        for module, name in modules(files).items():
            text = (
                wheel_read(wheel.path, files[name]).decode("utf-8", "replace") if name.endswith(".py") else ""
            )
            ours[module] = text
    theirs = set()
    if wsgi.split(":")[0] not in ours:
        theirs = {module for wheel in deps for module in modules(wheel_files(wheel.path))}
    check_entry(wsgi, ours, theirs, "the release or its dependencies")


def tree_members(build: Build) -> list[Member]:
    """Return the plain tree's files, none for a package."""
    if build.tree.is_package:
        return []
    return [
        Member(
            f"src/{name}", (build.tree.root / name).read_bytes(), os.access(build.tree.root / name, os.X_OK)
        )
        for name in build.tree.names
    ]


def static_members(build: Build, wheels: list[Wheel]) -> list[Member]:
    """Return the static files, from the plain tree or the wheels.

    Raises Refused when the folder has none.
    """
    folder = build.params["static_dir"].strip("/")
    if not folder:
        return []
    found = {}
    for wheel in wheels:
        for name, member in wheel_files(wheel.path).items():
            if name.startswith(f"{folder}/"):
                found[name.removeprefix(f"{folder}/")] = wheel_read(wheel.path, member)
    for member in tree_members(build):
        name = member.name.removeprefix("src/")
        if name.startswith(f"{folder}/"):
            found[name.removeprefix(f"{folder}/")] = member.content
    if not found:
        raise Refused(f"static_dir `{folder}` has no file{static_hint(build, folder, wheels)}")
    return [Member(f"static/{name}", content) for name, content in sorted(found.items())]


def static_hint(build: Build, folder: str, wheels: list[Wheel]) -> str:
    """Say why a static folder may be empty."""
    candidates = [build.tree.root / folder, build.tree.root / "src" / folder]
    ignored = [path for path in candidates if path.is_dir() and any(path.iterdir())]
    if ignored:
        return f": {ignored[0]} has some, but git ignores them or the wheel leaves them out"
    names = [name for wheel in wheels for name in wheel_files(wheel.path)] + list(build.tree.names)
    folders = {name.rsplit("/", 1)[0] for name in names if "/" in name}
    near = difflib.get_close_matches(folder, sorted(folders), 1, 0.5)
    return f"; did you mean `{near[0]}`?" if near else " in the wheel or the tree"


def deps_archive(build: Build, deps: list[Wheel]) -> tuple[str, Path]:
    """Return the dependencies' id and archive, written when it is not there."""
    text = "".join(f"{line}\n" for line in sorted(wheel.requirement for wheel in deps))
    words = [text, build.target.minor, build.target.platform]
    deps_id = hashlib.sha256("\0".join(words).encode()).hexdigest()[:12]
    path = build.cache / "deps" / f"deps-{deps_id}.tar"
    if not path.is_file():
        wheels = [Member(f"wheels/{wheel.path.name}", wheel.path.read_bytes()) for wheel in deps]
        write_tar(path, [Member("requirements.txt", text.encode()), *wheels])
    return deps_id, path


def content_digest(build: Build, deps_id: str, wheels: list[Wheel], members: list[Member]) -> str:
    """Return the digest that is the release's identity: what it installs and how it is started."""
    content = {
        "schema": 1,
        "app": build.params["app_name"],
        "python": build.target.minor,
        "platform": build.target.platform,
        "wsgi": build.params["wsgi"],
        "migrate_command": build.params["migrate_command"],
        "deps_id": deps_id,
        "wheels": {wheel.path.name: wheel_contents(wheel.path) for wheel in wheels},
        "files": {member.name: [member.sha256, member.executable] for member in members},
    }
    return hashlib.sha256(canonical_json(content)).hexdigest()


def release_archive(build: Build, digest: str, deps_id: str, wheels: list[Wheel], members: list[Member]):
    """Return id, path and whether it is new. Content that a host or the cache has keeps its id."""
    folder = build.cache / "releases" / build.params["app_name"]
    noted = folder / f"{digest}.json"
    cached = json.loads(noted.read_text())["id"] if noted.is_file() else ""
    known = [known["id"] for known in build.params["known_releases"] if known.get("digest") == digest]
    release_id = (
        max(known, default=cached) or f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{digest[:7]}"
    )
    path = folder / f"release-{release_id}.tar"
    if not path.is_file():
        write_tar(path, release_members(build, release_id, digest, deps_id, wheels, members))
    write_text(noted, json.dumps({"id": release_id}))
    return release_id, path, not (known or cached)


def release_members(build: Build, release_id, digest, deps_id, wheels, members) -> list[Member]:
    """Return everything in a release's archive."""
    hashes = [f"./wheels/{wheel.path.name} --hash=sha256:{wheel.sha256}\n" for wheel in wheels]
    members = [
        *members,
        *(Member(f"wheels/{wheel.path.name}", wheel.path.read_bytes()) for wheel in wheels),
        Member("requirements.txt", "".join(sorted(hashes)).encode()),
        Member("release.env", release_env(build, release_id)),
    ]
    described = {
        "schema": 1,
        "id": release_id,
        "digest": digest,
        "app": build.params["app_name"],
        "revision": build.tree.identity.revision,
        "ref": build.tree.identity.ref,
        "dirty": build.tree.identity.dirty,
        "built_at": built_at(release_id),
        "built_by": build.params["built_by"],
        "python": build.target.minor,
        "platform": build.target.platform,
        "wsgi": build.params["wsgi"],
        "migrate_command": build.params["migrate_command"],
        "deps_id": deps_id,
        "files": {member.name: member.sha256 for member in members},
    }
    return [*members, Member("release.json", canonical_json(described))]


def release_env(build: Build, release_id: str) -> bytes:
    """Return the environment that every unit of a release reads."""
    return environment_file(
        {
            "APP_WSGI": build.params["wsgi"],
            "MIGRATE_COMMAND": build.params["migrate_command"],
            "RELEASE_ID": release_id,
            "RELEASE_REVISION": build.tree.identity.revision,
            "RELEASE_BUILT_AT": built_at(release_id),
        }
    )


def built_at(release_id: str) -> str:
    """Return the time in a release id, as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.strptime(release_id.split("-")[0], "%Y%m%dT%H%M%SZ"))


@contextlib.contextmanager
def locked(folder: Path):
    """Hold the cache: two inventories may deploy from one controller at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def make(build: Build) -> dict:
    """Build the archives and return what the module reports."""
    phase = build.clock.phase
    with phase("wait"):
        held = contextlib.ExitStack()
        held.enter_context(locked(build.cache))
    with held:
        with phase("lock"):
            lock = given_lock(build) if build.params["lock"] else made_lock(build)
        with phase("own_wheels"):
            wheels = [own_wheel(build, tree) for tree in build.packages]
            refuse_unmet(wheels, for_target(lock, build.target), build.target)
        with phase("dependencies"):
            deps = WheelCache(build.cache, build.target, build.python).get(lock)
            deps_id, deps_path = deps_archive(build, deps)
        with phase("archive"):
            refuse_wrong_entry(build, wheels, deps)
            members = [*tree_members(build), *static_members(build, wheels)]
            digest = content_digest(build, deps_id, wheels, members)
            release_id, path, changed = release_archive(build, digest, deps_id, wheels, members)
    return {
        "changed": changed,
        "id": release_id,
        "digest": digest,
        "release_archive": str(path),
        "deps_id": deps_id,
        "deps_archive": str(deps_path),
    }


def work(params: dict) -> dict:
    """Check, build where asked, and return the module's result."""
    build = start(params)
    with build.clock.phase("check"):
        check(build)
    result = make(build) if params["state"] == "build" else {"changed": False}
    phases = build.clock.phases
    identity = build.tree.identity
    return {
        **result,
        "revision": identity.revision,
        "ref": identity.ref,
        "dirty": identity.dirty,
        "kind": "package" if build.tree.is_package else "tree",
        "duration_seconds": {**phases, "total": round(sum(phases.values()), 3)},
    }


def argument_spec() -> dict:
    """Return the module's arguments."""
    return {
        "state": {"type": "str", "choices": ["build", "check"], "default": "build"},
        "app_name": {"type": "str", "required": True},
        "source": {"type": "path", "required": True},
        "wsgi": {"type": "str", "required": True},
        "lock": {"type": "path", "default": ""},
        "local_packages": {"type": "list", "elements": "path", "default": []},
        "static_dir": {"type": "str", "default": ""},
        "migrate_command": {"type": "str", "default": ""},
        "python_version": {"type": "str", "required": True},
        "machine": {"type": "str", "default": "x86_64"},
        "glibc": {"type": "str", "required": True},
        "cache_dir": {"type": "path", "required": True},
        "known_releases": {"type": "list", "elements": "dict", "default": []},
        "built_by": {"type": "str", "default": ""},
        "controller_python": {"type": "path", "default": ""},
        "uv": {"type": "path", "default": ""},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = work(module.params)
    except Refused as refused:
        module.fail_json(msg=str(refused))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
