#!/usr/bin/python
"""Build the two archives of a release on the controller."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.release_archive import (
    Member,
    canonical_json,
    environment_file,
    wheel_contents,
    wheel_files,
    wheel_read,
    write_tar,
)
from ansible.module_utils.release_git import git_tree
from ansible.module_utils.release_lock import (
    Builder,
    Entry,
    Lock,
    Target,
    Wheel,
    WheelCache,
    by_name,
    for_target,
    parse_lock,
    require_packaging,
    unmet,
)
from ansible.module_utils.release_migrations import Unclear, carried, of_migrations
from ansible.module_utils.release_origin import (
    FORMS,
    GitOrigin,
    PackageOrigin,
    parse_origin,
    parse_requirement,
)
from ansible.module_utils.release_resolve import Wanted, given_lock, made_lock
from ansible.module_utils.release_sbom import SBOM, bill
from ansible.module_utils.release_source import (
    Identity,
    Refused,
    Tree,
    check_entry,
    modules,
    read_tree,
    split_wsgi,
)
from ansible.module_utils.release_static import MANIFEST, names_are_taken, prepared
from ansible.module_utils.release_tools import locked, without_userinfo, write_text
from ansible.module_utils.release_wheel import own_wheel

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
  - It runs on the controller, in Ansible's own process, whatever host the task is for.
  - The source is copied before it is built. Nothing is written outside of O(cache_dir), in check mode too.
options:
  state:
    description:
      - V(build) builds. V(check) refuses whatever can be refused without building. Where there is no O(lock)
        it resolves one, of a repository it fetches the ref, of a package it downloads the wheels.
    type: str
    choices: [build, check]
    default: build
  app_name:
    description: Name of the app.
    type: str
    required: true
  source:
    description:
      - Where the app comes from. Its form alone says which of three it is, so that a misspelt folder never
        becomes somebody's package.
      - "V(git+https://host/shop.git@v1.4) is a git repository and, behind the C(@), a tag, a branch or a
        commit; without it the branch that the repository calls its HEAD. V(#subdirectory=backend) names a
        folder in it. V(git+ssh://git@host/shop.git) and V(git+file:///srv/git/shop.git) work alike. Each
        build fetches, but for a full commit hash that was built before. Submodules are taken too. A user or
        password in the URL is refused: git has ssh keys and credential helpers."
      - "V(pypi:shop==1.4) is a requirement that the package index fulfils, extras and all. Its wheel is
        shipped as it is, among the dependencies. With C(==) it is resolved once, an open one such as
        V(pypi:shop>=1) anew at each build. The index is what uv and pip are set to on the controller."
      - Everything else is a folder. With a build system in its C(pyproject.toml), or a C(setup.py), it
        becomes a wheel, otherwise a plain tree below C(src/).
      - In a git checkout the files are those that git tracks or would track, otherwise all but virtual
        environments, caches and build folders. A file named C(.env) is never taken.
    type: str
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
  build_lock:
    description:
      - Hashed requirements file of what projects without a wheel, this one among them, are built with.
    type: path
    required: true
  extra_packages:
    description:
      - Requirements that the app does not name itself, such as V(psycopg[binary]) for its database. They are
        resolved together with the app's; a O(lock) must hold them already.
    type: list
    elements: str
    default: []
  package_overrides:
    description:
      - Requirements that stand in for all others of the same package, such as V(greenlet>=3) where a package
        asks for an older one for no good reason. What they break is the user's own affair.
    type: list
    elements: str
    default: []
  local_packages:
    description: Folders of further projects whose wheels belong to the release.
    type: list
    elements: path
    default: []
  static_dir:
    description:
      - Folder inside the project's wheel or plain tree whose files nginx serves, such as V(inbox/static).
        Empty means none.
      - In the release each file has a copy under a name with a hash of its content, which browsers may keep
        for ever; text is compressed beside it. C(manifest.json) says which copy is whose, and
        C(RELEASE_STATIC_DIR) in C(release.env) where it all lies. A folder with a C(manifest.json) of its own
        gets no copies.
    type: str
    default: ""
  migrate_command:
    description: Command that migrates the database, for C(release.env). One line.
    type: str
    default: ""
  celery:
    description: The release's Celery app, such as V(shop.worker:app), for C(release.env). Empty means none.
    type: str
    default: ""
  beat_scheduler:
    description: Class of beat's scheduler, for C(release.env). Empty means the one the app names.
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
  host:
    description: Name of the target, for messages.
    type: str
    default: ""
  since:
    description:
      - When the run began, in seconds since the epoch. What was fetched or resolved since then is not asked
        for again, so that all hosts of one run get the same. V(0) asks each time.
    type: float
    default: 0.0
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
  - git, for a source that is a checkout or a repository
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
    build_lock: "{{ playbook_dir }}/../requirements/build.txt"
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

- name: Build a package of the index, for another release of Debian
  release_build:
    app_name: httpbin
    source: pypi:httpbin==0.10.4
    wsgi: httpbin:app
    build_lock: "{{ playbook_dir }}/../requirements/build.txt"
    local_packages: ["{{ playbook_dir }}/../app_skeleton/flask_ops"]
    package_overrides: ["greenlet>=3"]
    python_version: "3.11"
    glibc: "2.36"
    cache_dir: "{{ playbook_dir }}/../.cache/build"
  delegate_to: localhost
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
  description: The source's commit; name and version of a package; empty for a folder outside of git.
  type: str
  returned: always
ref:
  description: The source's branch, or its tag; name and version of a package.
  type: str
  returned: always
dirty:
  description: Whether the source differs from its commit.
  type: bool
  returned: always
kind:
  description: How the source is shipped, C(package), C(tree), or C(wheel) where it comes as one.
  type: str
  returned: always
duration_seconds:
  description: How long each phase took.
  type: dict
  returned: always
"""

APP_NAME = re.compile(r"[a-z](?:[a-z0-9_-]{0,28}[a-z0-9])?")


@dataclass
class Clock:
    """How long each phase took, in seconds; a phase within another counts as its own alone."""

    phases: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def phase(self, name: str):
        """Time a block."""
        began, others = time.monotonic(), sum(self.phases.values())
        try:
            yield
        finally:
            within = sum(self.phases.values()) - others
            self.phases[name] = round(time.monotonic() - began - within, 3)


@dataclass
class Build:
    """One run: its parameters, read once, and what all steps share.

    `tree` has no files where the app comes from the index as a finished wheel, which `wanted` then names.
    """

    params: dict
    clock: Clock
    target: Target
    tree: Tree
    local: list[Tree]
    wanted: Wanted
    # Learned when the static files are there.
    has_manifest: bool = False
    # Learned when the wheels are there: what release.json says of the revisions, and why it says nothing.
    migrations: dict | None = None
    unclear: str = ""

    @property
    def cache(self) -> Path:
        """The cache's folder."""
        return Path(self.params["cache_dir"])

    @property
    def python(self) -> str:
        """The controller's Python."""
        return self.params["controller_python"] or sys.executable

    @property
    def build_lock(self) -> str:
        """The file of what wheels are built with; tools read it from folders of their own."""
        return str(Path(self.params["build_lock"]).resolve())

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

    @property
    def kind(self) -> str:
        """How the app is shipped."""
        if self.wanted.package:
            return "wheel"
        return "package" if self.tree.is_package else "tree"

    @cached_property
    def lock(self) -> Lock:
        """The lock: the user's own, or one that is made."""
        with self.clock.phase("lock"), self.explained():
            if self.params["lock"]:
                return given_lock(Path(self.params["lock"]), self.wanted, self.target)
            tools = (self.uv, self.python, self.build_lock, self.params["since"])
            return made_lock(self.cache / "locks", self.wanted, self.target, *tools)

    @cached_property
    def entries(self) -> list[Entry]:
        """What the lock holds for the target."""
        return for_target(self.lock, self.target)

    @cached_property
    def deps(self) -> list[Wheel]:
        """The wheels of everything that is locked."""
        lock = self.lock
        with self.clock.phase("dependencies"), self.explained():
            builder = Builder(self.cache / "builders", self.build_lock, self.uv, self.python)
            return WheelCache(self.cache, self.target, self.python, builder).get(lock)

    @property
    def app_wheels(self) -> list[Wheel]:
        """The app's wheel among the locked ones, none where the app is built here."""
        package = self.wanted.package
        return [wheel for wheel in self.deps if package and wheel.name == package.package]

    @contextlib.contextmanager
    def explained(self):
        """Say of a refusal what it is about: the source, and the host whose Python and libc count."""
        try:
            yield
        except Refused as refused:
            host = f" for {self.params['host']}" if self.params["host"] else ""
            about = f"(Python {self.target.python}, glibc {self.target.glibc})"
            raise Refused(f"{said_source(self.params)}{host} {about}: {refused}") from None


def start(params: dict, held: contextlib.ExitStack) -> Build:
    """Read and check everything that costs little; `held` keeps the cache, and what is checked out in it."""
    require_packaging()
    if not APP_NAME.fullmatch(params["app_name"]):
        raise Refused(f"app_name is `{params['app_name']}`: wanted are a to z, 0 to 9, - and _, 30 at most")
    for name in ("migrate_command", "celery", "beat_scheduler"):
        if any(ord(character) < 32 for character in params[name]):
            raise Refused(f"{name} must be one line")
    split_wsgi(params["wsgi"])
    if not Path(params["build_lock"]).is_file():
        raise Refused(f"build_lock {params['build_lock']} is not there: see app_build_lock")
    # In there everything must be pinned and hashed.
    parse_lock(Path(params["build_lock"]).read_text("utf-8"), params["build_lock"])
    target = Target(params["python_version"], params["machine"], params["glibc"])
    origin = parse_origin(params["source"])
    extras, overrides = (
        tuple(sorted(str(parse_requirement(text, f"app_{name}")) for text in params[name]))
        for name in ("extra_packages", "package_overrides")
    )
    clock = Clock()
    if params["state"] == "build" or not params["lock"] or not isinstance(origin, Path):
        with clock.phase("wait"):
            held.enter_context(locked(Path(params["cache_dir"])))
    with clock.phase("source"):
        tree = app_tree(params, origin, held)
        local = [read_tree(Path(path)) for path in params["local_packages"]]
    for package in local:
        if not package.is_package:
            raise Refused(f"local_packages: {package.root} has neither a build system nor a setup.py")
    package = origin if isinstance(origin, PackageOrigin) else None
    return Build(params, clock, target, tree, local, Wanted((tree, *local), package, extras, overrides))


def app_tree(params: dict, origin: Path | GitOrigin | PackageOrigin, held: contextlib.ExitStack) -> Tree:
    """Return the app's files, checked out where they are in a repository."""
    said = said_source(params)
    if isinstance(origin, PackageOrigin):
        return Tree(Path(os.devnull), (), Identity(), said)
    if isinstance(origin, GitOrigin):
        cache = Path(params["cache_dir"]) / "git"
        cache.mkdir(exist_ok=True)
        place = Path(held.enter_context(tempfile.TemporaryDirectory(dir=cache, prefix=".checkout-")))
        return git_tree(origin, cache, place / "source", said, params["since"])
    if not origin.is_dir():
        raise Refused(f"{said}: there is no folder {origin}. Wanted is {FORMS}")
    return read_tree(origin)


def said_source(params: dict) -> str:
    """Return what messages call the source."""
    return f"app_source `{without_userinfo(params['source'])}`"


def check(build: Build) -> None:
    """Refuse what can be refused before anything is built, the cheapest first.

    Locks and wheels that this takes are found again by the build.
    """
    requires = build.tree.pyproject().get("project", {}).get("requires-python", "")
    if requires and not build.target.takes(requires):
        raise Refused(f"{build.tree.where} requires Python {requires}, the target has {build.target.python}")
    if not build.wanted.package:
        ours = {}
        for tree in [build.tree, *build.local]:
            ours.update(source_modules(tree))
        check_entry(build.params["wsgi"], ours, None, build.tree.where)
    for_target(build.lock, build.target)
    if build.wanted.package:
        learn_version(build)
        refuse_wrong_entry(build, build.app_wheels, build.deps)
        static_files(build, build.app_wheels)


def learn_version(build: Build) -> None:
    """Take the revision and ref of an app from the index: its name and version."""
    version = build.app_wheels[0].metadata["version"]
    said = f"{build.wanted.package.package} {version}"
    build.tree = replace(build.tree, identity=Identity(said, said))


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


def refuse_unmet(build: Build, wheels: list[Wheel], entries: list[Entry]) -> None:
    """Refuse a lock that lacks what wheels, or the inventory, require."""
    said = [wheel.metadata for wheel in wheels]
    metadata = {**{one["name"]: one for one in said}, **build.wanted.roots()}
    problems = unmet(metadata, entries, build.target, build.wanted.overrides)
    if problems:
        raise Refused(
            f"the lock does not fit: {'; '.join(problems)}. Lock again, or overrule a requirement that is too"
            " strict in app_package_overrides"
        )


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
    where = build.tree.where if build.wanted.package else "the release or its dependencies"
    check_entry(wsgi, ours, theirs, where)


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


def static_files(build: Build, wheels: list[Wheel]) -> dict[str, bytes]:
    """Return the static files, from the plain tree or the wheels, by their path below the folder.

    Raises Refused when the folder has none.
    """
    folder = build.params["static_dir"].strip("/")
    if not folder:
        return {}
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
    return found


def static_members(build: Build, wheels: list[Wheel]) -> list[Member]:
    """Return the release's static folder, and note whether it has a manifest of ours."""
    files = static_files(build, wheels)
    if not files:
        return []
    build.has_manifest = not names_are_taken(files)
    return [Member(f"static/{name}", content) for name, content in sorted(prepared(files).items())]


def learn_migrations(build: Build, wheels: list[Wheel]) -> None:
    """Note which revisions the release carries; where that is unclear it is deployed all the same.

    Raises Refused when a revision says neither yes nor no to whether it contracts.
    """
    files = {member.name: member.content for member in tree_members(build) if of_migrations(member.name)}
    for wheel in wheels:
        for name, member in wheel_files(wheel.path).items():
            if of_migrations(name):
                files[name] = wheel_read(wheel.path, member)
    try:
        build.migrations = carried({name: text.decode("utf-8", "replace") for name, text in files.items()})
    except Unclear as unclear:
        build.unclear = str(unclear)


def warnings(build: Build) -> dict[str, list[str]]:
    """Say what the release goes without, for Ansible to show."""
    folder, said = build.params["static_dir"], []
    if folder and not build.has_manifest:
        remedy = "Give that file another name, unless a bundler has hashed the names already"
        said.append(f"static_dir `{folder}` has a {MANIFEST} of its own: no name gets a hash. {remedy}.")
    if build.unclear:
        lost = "no migration is skipped and no rollback is checked against it"
        said.append(f"the release's schema is not known, so {lost}: {build.unclear}.")
    return {"warnings": said} if said else {}


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


def deps_lock(deps: list[Wheel]) -> str:
    """Return the lock that a host installs the dependencies by: these very files and no others."""
    return "".join(f"{line}\n" for line in sorted(wheel.requirement for wheel in deps))


def deps_files(deps: list[Wheel]) -> dict[str, str]:
    """Return the digest of every file of the dependencies' archive, which release.json vouches for."""
    lock = hashlib.sha256(deps_lock(deps).encode()).hexdigest()
    return {"requirements.txt": lock, **{f"wheels/{wheel.path.name}": wheel.sha256 for wheel in deps}}


def deps_archive(build: Build, deps: list[Wheel]) -> tuple[str, Path]:
    """Return the dependencies' id and archive, written when it is not there."""
    text = deps_lock(deps)
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
        # Counts what a release's archive holds: with another count what is cached is built anew.
        "schema": 2,
        "app": build.params["app_name"],
        "python": build.target.minor,
        "platform": build.target.platform,
        "wsgi": build.params["wsgi"],
        "migrate_command": build.params["migrate_command"],
        "deps_id": deps_id,
        "wheels": {wheel.path.name: wheel_contents(wheel.path) for wheel in wheels},
        "files": {member.name: [member.sha256, member.executable] for member in members},
    }
    if build.wanted.overrides:  # hosts judge what they install by them
        content["overrides"] = sorted(by_name(build.wanted.overrides))
    content |= {name: build.params[name] for name in ("celery", "beat_scheduler") if build.params[name]}
    return hashlib.sha256(canonical_json(content)).hexdigest()


def release_archive(
    build: Build, digest: str, deps_id: str, wheels: list[Wheel], members: list[Member], deps: list[Wheel]
) -> tuple[str, Path, bool]:
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
        write_tar(path, release_members(build, release_id, digest, deps_id, wheels, members, deps))
    write_text(noted, json.dumps({"id": release_id}))
    return release_id, path, not (known or cached)


def release_members(build: Build, release_id, digest, deps_id, wheels, members, deps) -> list[Member]:
    """Return everything in a release's archive."""
    hashes = [f"./wheels/{wheel.path.name} --hash=sha256:{wheel.sha256}\n" for wheel in wheels]
    members = [
        *members,
        *(Member(f"wheels/{wheel.path.name}", wheel.path.read_bytes()) for wheel in wheels),
        Member("requirements.txt", "".join(sorted(hashes)).encode()),
        Member("release.env", release_env(build, release_id)),
        Member(SBOM, canonical_json(sbom(build, release_id, digest, wheels, deps))),
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
        "dependencies": deps_files(deps),
        "overrides": sorted(by_name(build.wanted.overrides)),
        "migrations": build.migrations,
        "files": {member.name: member.sha256 for member in members},
    }
    return [*members, Member("release.json", canonical_json(described))]


def sbom(build: Build, release_id: str, digest: str, wheels: list[Wheel], deps: list[Wheel]) -> dict:
    """Return the release's bill of materials."""
    revision = build.tree.identity.revision
    root = {"app": build.params["app_name"], "version": release_id, "digest": digest, "revision": revision}
    locked = list(zip(deps, build.entries, strict=True))
    return bill(root, built_at(release_id), build.target, wheels, locked)


def release_env(build: Build, release_id: str) -> bytes:
    """Return the environment that every unit of a release reads."""
    place = f"/srv/{build.params['app_name']}/releases/{release_id}"
    # Where a release has these is its own affair: one that is gone back to must find them as they were.
    optional = {
        "APP_CELERY": build.params["celery"],
        "CELERY_BEAT_SCHEDULER": build.params["beat_scheduler"],
        "RELEASE_CELERY": "flask_ops.celery_command" if build.params["celery"] else "",
        "RELEASE_STATIC_DIR": f"{place}/static" if build.has_manifest else "",
    }
    return environment_file(
        {
            "APP_WSGI": build.params["wsgi"],
            "MIGRATE_COMMAND": build.params["migrate_command"],
            "RELEASE_ID": release_id,
            "RELEASE_REVISION": build.tree.identity.revision,
            "RELEASE_BUILT_AT": built_at(release_id),
            **{name: value for name, value in optional.items() if value},
        }
    )


def built_at(release_id: str) -> str:
    """Return the time in a release id, as ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.strptime(release_id.split("-")[0], "%Y%m%dT%H%M%SZ"))


def make(build: Build) -> dict:
    """Build the archives and return what the module reports."""
    phase = build.clock.phase
    with phase("own_wheels"):
        tools = (build.cache / "built", build.target, build.uv, build.python, build.build_lock)
        wheels = [own_wheel(tree, *tools) for tree in build.packages]
        refuse_unmet(build, wheels, build.entries)
    deps = build.deps
    with phase("archive"):
        # Each host looks once more when it installs; here it is told before any host is touched.
        refuse_unmet(build, [*wheels, *deps], [])
        deps_id, deps_path = deps_archive(build, deps)
        refuse_wrong_entry(build, [*wheels, *build.app_wheels], deps)
        members = [*tree_members(build), *static_members(build, [*wheels, *build.app_wheels])]
        learn_migrations(build, [*wheels, *build.app_wheels])
        digest = content_digest(build, deps_id, wheels, members)
        release_id, path, changed = release_archive(build, digest, deps_id, wheels, members, deps)
    return {
        **warnings(build),
        "changed": changed,
        "id": release_id,
        "digest": digest,
        "release_archive": str(path),
        "deps_id": deps_id,
        "deps_archive": str(deps_path),
    }


def work(params: dict) -> dict:
    """Check, build where asked, and return the module's result."""
    with contextlib.ExitStack() as held:
        build = start(params, held)
        with build.clock.phase("check"):
            check(build)
        result = make(build) if params["state"] == "build" else {"changed": False}
        identity = build.tree.identity
        result |= {
            "revision": identity.revision,
            "ref": identity.ref,
            "dirty": identity.dirty,
            "kind": build.kind,
        }
    phases = build.clock.phases
    return {**result, "duration_seconds": {**phases, "total": round(sum(phases.values()), 3)}}


def argument_spec() -> dict:
    """Return the module's arguments."""
    return {
        "state": {"type": "str", "choices": ["build", "check"], "default": "build"},
        "app_name": {"type": "str", "required": True},
        "source": {"type": "str", "required": True},
        "wsgi": {"type": "str", "required": True},
        "lock": {"type": "path", "default": ""},
        "build_lock": {"type": "path", "required": True},
        "extra_packages": {"type": "list", "elements": "str", "default": []},
        "package_overrides": {"type": "list", "elements": "str", "default": []},
        "local_packages": {"type": "list", "elements": "path", "default": []},
        "static_dir": {"type": "str", "default": ""},
        "migrate_command": {"type": "str", "default": ""},
        "celery": {"type": "str", "default": ""},
        "beat_scheduler": {"type": "str", "default": ""},
        "python_version": {"type": "str", "required": True},
        "machine": {"type": "str", "default": "x86_64"},
        "glibc": {"type": "str", "required": True},
        "cache_dir": {"type": "path", "required": True},
        "known_releases": {"type": "list", "elements": "dict", "default": []},
        "built_by": {"type": "str", "default": ""},
        "host": {"type": "str", "default": ""},
        "since": {"type": "float", "default": 0.0},
        "controller_python": {"type": "path", "default": ""},
        "uv": {"type": "path", "default": ""},
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    try:
        result = work(module.params)
    except Refused as refused:
        # Ansible shows a task's arguments at a higher verbosity.
        module.params["source"] = without_userinfo(module.params["source"])
        module.fail_json(msg=str(refused))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
