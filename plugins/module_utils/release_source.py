"""Read a project's source: which files belong to it, what git says of it, and what its WSGI entry is."""

from __future__ import annotations

import ast
import difflib
import hashlib
import os
import re
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

# Never part of a release, wherever they lie. `.env` holds a developer's settings, often secret ones.
SKIPPED = frozenset(
    ".git .hg .svn .env .venv node_modules __pycache__ .tox .nox"  # noqa: SIM905
    " .mypy_cache .pytest_cache .ruff_cache".split()
)
# Left by builds at the top of a project. Deeper down they may be code: a package `build`, a `static/dist`.
SKIPPED_AT_TOP = frozenset(["build", "dist"])

WSGI = re.compile(r"(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*)(?:\.\w+)*(?P<call>\(.*\))?")
USUAL_ENTRIES = ("app", "application", "create_app", "make_app")


class Refused(Exception):
    """Something a person must put right; the message says what, where and how."""


@dataclass(frozen=True)
class Identity:
    """Where a source stands in its history. Everything is empty outside of git."""

    revision: str = ""
    ref: str = ""
    dirty: bool = False
    tag: str = ""


@dataclass(frozen=True)
class Tree:
    """A project's files: names below the root, sorted, as they go into a release.

    A project that comes as a finished wheel has none.
    """

    root: Path
    names: tuple[str, ...]
    identity: Identity
    said: str = ""

    @property
    def where(self) -> str:
        """What messages call the project: what the user wrote, or its folder."""
        return self.said or str(self.root)

    @property
    def is_package(self) -> bool:
        """Whether the tree builds to a wheel. uv's rule: it names a build system, or says so itself."""
        if "setup.py" in self.names:
            return True
        if "pyproject.toml" not in self.names:
            return False
        project = self.pyproject()
        wanted = project.get("tool", {}).get("uv", {}).get("package")
        return "build-system" in project if wanted is None else bool(wanted)

    def pyproject(self) -> dict:
        """Return pyproject.toml's content, empty when there is none.

        Raises Refused when it does not parse.
        """
        if "pyproject.toml" not in self.names:
            return {}
        try:
            return tomllib.loads((self.root / "pyproject.toml").read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise Refused(f"pyproject.toml of {self.where} does not parse: {error}") from error

    def digest(self) -> str:
        """Return a digest of names, contents and executable bits."""
        whole = hashlib.sha256()
        for name in self.names:
            path = self.root / name
            kind = b"x" if is_executable(path) else b"-"
            whole.update(name.encode() + b"\0" + kind + hashlib.sha256(path.read_bytes()).digest())
        return whole.hexdigest()

    def copy(self, target: Path) -> None:
        """Copy the files with plain modes: links become what they point to, the umask has no say."""
        for name in self.names:
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / name, path)
            path.chmod(0o755 if is_executable(self.root / name) else 0o644)


def is_executable(path: Path) -> bool:
    """Tell whether the owner may execute a file."""
    return bool(path.stat().st_mode & 0o100)


def read_tree(root: Path) -> Tree:
    """List a source folder: what git tracks or would track, or every file outside of git.

    Raises Refused when there is nothing, or a link leads out of the folder.
    """
    if not root.is_dir():
        raise Refused(f"there is no folder {root}")
    listed = git_names(root)
    names = walk_names(root) if listed is None else listed
    names = tuple(sorted(name for name in names if not is_skipped(name)))
    if not names:
        raise Refused(f"{root} holds no file that belongs in a release")
    refuse_links_outside(root, names, str(root))
    return Tree(root, names, Identity() if listed is None else git_identity(root))


def checked_out_tree(root: Path, identity: Identity, said: str) -> Tree:
    """Return the files of a folder that git wrote: all of them are tracked, whatever their names.

    Raises Refused as `read_tree` does; `said` is what the user wrote, for messages.
    """

    def keeps(root: Path, folder: Path) -> bool:
        # Before it is walked: it may lead to anywhere on this controller.
        refuse_links_outside(root, (folder.relative_to(root).as_posix(),), said)
        return not loops(root, folder)

    names = tuple(sorted(name for name in walk_names(root, keeps) if not is_skipped(name)))
    if not names:
        raise Refused(f"{said} holds no file that belongs in a release")
    refuse_links_outside(root, names, said)
    return Tree(root, names, identity, said)


def is_skipped(name: str) -> bool:
    """Tell whether a file never belongs in a release."""
    return name.endswith(".pyc") or not SKIPPED.isdisjoint(PurePosixPath(name).parts)


def walk_names(root: Path, keeps=None) -> list[str]:
    """Return every file below a folder, in the folders that `keeps` is true for.

    By default those that a project keeps where no version control speaks for it.
    """
    keeps = keeps or keeps_untracked
    found = []
    for folder, folders, files in os.walk(root, followlinks=True):
        here = Path(folder)
        folders[:] = [name for name in folders if keeps(root, here / name)]
        found += [(here / name).relative_to(root).as_posix() for name in files if (here / name).is_file()]
    return found


def loops(root: Path, folder: Path) -> bool:
    """Tell whether a folder is a link to one that it lies in."""
    return folder.is_symlink() and folder.resolve() in [*folder.parents, root.resolve()]


def keeps_untracked(root: Path, folder: Path) -> bool:
    """Tell whether a folder outside of git is part of the source. A virtual environment is not."""
    if folder.name in SKIPPED or folder.name.endswith(".egg-info") or loops(root, folder):
        return False
    at_top = folder.parent == root and folder.name in SKIPPED_AT_TOP
    return not at_top and not (folder / "pyvenv.cfg").exists()


def refuse_links_outside(root: Path, names: tuple[str, ...], said: str) -> None:
    """Refuse a link that leads out of the source: what it points to is not under its control."""
    real = root.resolve()
    outside = [name for name in names if not (root / name).resolve().is_relative_to(real)]
    if outside:
        raise Refused(
            f"links in {said} lead out of it: {', '.join(outside[:5])}; put the files in their place"
        )


def git(root: Path, *words: str) -> str | None:
    """Return what git prints, or None where it fails.

    The folder may belong to the person who called sudo, which git distrusts, and its configuration may name
    a program to run at every `status`, which we distrust.
    """
    options = ["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", str(root)]
    try:
        done = subprocess.run(["git", *options, *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


def git_names(root: Path) -> list[str] | None:
    """Return files tracked, and untracked but not ignored; None where git does not speak for the folder."""
    printed = git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate")
    if not printed:  # no checkout, or a folder that the checkout around it ignores as a whole
        return None
    found = []
    for name in printed.rstrip("\0").split("\0"):
        path = root / name
        if path.is_dir():  # a submodule, or a link to a folder
            below = None if path.is_symlink() else git_names(path)
            found += [
                f"{name.rstrip('/')}/{inner}" for inner in (walk_names(path) if below is None else below)
            ]
        elif path.is_file():
            found.append(name)
    return found


def git_identity(root: Path) -> Identity:
    """Return revision, branch or tag, and whether anything below the folder differs from the revision."""
    revision = (git(root, "rev-parse", "HEAD") or "").strip()
    if not revision:
        return Identity()
    ref = (git(root, "symbolic-ref", "--short", "-q", "HEAD") or "").strip()
    tag = (git(root, "describe", "--tags", "--abbrev=0") or "").strip()
    ref = ref or (git(root, "describe", "--tags", "--exact-match") or "").strip()
    return Identity(revision, ref, bool(git(root, "status", "--porcelain", "--", ".")), tag)


def modules(names) -> dict[str, str]:
    """Return importable modules from dotted name to file name, as seen from a folder on sys.path."""
    found = {}
    for name in names:
        parts = name.removesuffix("/__init__.py").removesuffix(".py").split("/")
        if name.endswith(".so"):
            parts = name.split("/")
            parts[-1] = parts[-1].split(".")[0]
        elif not name.endswith(".py"):
            continue
        if all(part.isidentifier() for part in parts):
            found[".".join(parts)] = name
    return found


def split_wsgi(wsgi: str) -> tuple[str, str, bool]:
    """Return module, name and whether the name is called.

    Raises Refused for what gunicorn could not load.
    """
    match = WSGI.fullmatch(wsgi)
    if not match:
        raise Refused(f"app_wsgi is `{wsgi}`: wanted is `module:name`, or `module:name()` for a factory")
    return match["module"], match["name"], bool(match["call"])


def check_entry(wsgi: str, ours: dict[str, str], theirs, where: str) -> None:
    """Refuse a WSGI entry that is not there.

    `ours` maps modules of the source to their text, `theirs` holds the names of the dependencies' modules,
    None where they are not known yet.
    """
    module, name, called = split_wsgi(wsgi)
    if module in ours:
        check_name(wsgi, module, name, called, ours[module])
        return
    if theirs is not None and module in theirs:
        return
    top = module.split(".")[0]
    tops = {other.split(".")[0] for other in ours}
    if theirs is None and top not in tops and not difflib.get_close_matches(top, tops, 1, 0.7):
        return
    raise Refused(
        f"app_wsgi is `{wsgi}`, but there is no module `{module}` in {where}{hint(module, wsgi, ours)}"
    )


def check_name(wsgi: str, module: str, name: str, called: bool, text: str) -> None:
    """Refuse a name that its module does not define, or a factory that nobody calls."""
    defined = defined_names(text)
    if "*" in defined:
        return
    if name not in defined:
        near = difflib.get_close_matches(name, defined, 1, 0.6) or [x for x in USUAL_ENTRIES if x in defined]
        guess = f"; did you mean `{module}:{near[0]}`?" if near else ""
        raise Refused(f"app_wsgi is `{wsgi}`, but `{module}` defines no `{name}`{guess}")
    if not called and takes_no_request(defined[name]):
        raise Refused(
            f"app_wsgi is `{wsgi}`, but `{name}` is a function that cannot take a request;"
            f" did you mean `{module}:{name}()`?"
        )


def hint(module: str, wsgi: str, ours: dict[str, str]) -> str:
    """Say which modules resemble a missing one, or else which have an entry."""
    after = wsgi[len(module) :]
    near = difflib.get_close_matches(module, sorted(ours), 1, 0.6)
    if near:
        return f"; did you mean `{near[0]}{after}`?"
    entries = [
        f"`{other}:{name}`"
        for other in sorted(ours)
        for name in USUAL_ENTRIES
        if name in ours[other] and name in defined_names(ours[other])
    ]
    return f"; near it are {', '.join(entries[:5])}" if entries else ""


def defined_names(text: str) -> dict[str, ast.AST]:
    """Return what a module binds at its top level, `*` standing for what only running it would tell."""
    try:
        waiting: list[ast.AST] = list(ast.parse(text).body)
    except SyntaxError:  # the target's Python may read what the controller's does not
        return {"*": ast.Pass()}
    found: dict[str, ast.AST] = {}
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found["*" if node.name == "__getattr__" else node.name] = node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found.update({(alias.asname or alias.name).split(".")[0]: node for alias in node.names})
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                found[node.id] = node
        elif not isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            waiting += ast.iter_child_nodes(node)
    return found


def takes_no_request(node: ast.AST) -> bool:
    """Tell whether a plain function lacks room for `environ` and `start_response`."""
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or node.decorator_list:
        return False
    arguments = node.args
    return arguments.vararg is None and len(arguments.posonlyargs) + len(arguments.args) < 2
