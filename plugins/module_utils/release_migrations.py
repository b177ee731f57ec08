"""Read which Alembic revisions a release carries, from their files and without importing the app."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from ansible.module_utils.release_source import Refused

# Beside Alembic's `env.py`, whatever the folder of both is called.
REVISION_FILE = re.compile(r"(?P<folder>(?:.*/)?)versions/[^/]+\.py")
ENVIRONMENT_FILE = "env.py"


class Unclear(Exception):
    """There are migrations, and their order cannot be told from their files."""


@dataclass(frozen=True)
class Revision:
    """One migration.

    :ivar down: what must be applied before it: its `down_revision` and its `depends_on`.
    :ivar contract: whether it takes away what the release before needs.
    """

    name: str
    down: tuple[str, ...]
    contract: bool

    def described(self) -> dict:
        """Return it as it stands in release.json."""
        return {"revision": self.name, "down": list(self.down), "contract": self.contract}


def of_migrations(name: str) -> bool:
    """Return whether a path may be a revision's, or that of what runs them."""
    return name.rpartition("/")[2] == ENVIRONMENT_FILE or bool(REVISION_FILE.fullmatch(name))


def carried(files: Mapping[str, str]) -> dict | None:
    """Return a release's revisions, the oldest first, and its heads; None where it has no migrations.

    :param files: the text of Python files by their path.
    :raises Unclear: when there are several folders of migrations, or one that is not understood.
    :raises Refused: when a file says neither yes nor no to whether it contracts.
    """
    folders = folders_of(files)
    if not folders:
        return None
    if len(folders) > 1:
        raise Unclear(f"there are several folders of migrations ({', '.join(sorted(folders))})")
    (names,) = folders.values()
    found = [one for name in names if (one := read_revision(name, files[name]))]
    ordered = in_order({one.name: one for one in found}, len(found))
    if not ordered:
        return None
    below = {name for one in ordered for name in one.down}
    heads = sorted(one.name for one in ordered if one.name not in below)
    return {"heads": heads, "revisions": [one.described() for one in ordered]}


def folders_of(files: Mapping[str, str]) -> dict[str, list[str]]:
    """Return each folder of migrations with the files of its revisions."""
    folders: dict[str, list[str]] = {}
    for name in sorted(files):
        match = REVISION_FILE.fullmatch(name)
        if match and f"{match['folder']}{ENVIRONMENT_FILE}" in files:
            folders.setdefault(match["folder"], []).append(name)
    return folders


def read_revision(name: str, text: str) -> Revision | None:
    """Return the revision of a file, None where it names none.

    :param name: the file's path, for messages.
    :raises Unclear: when Alembic alone could tell what it says.
    :raises Refused: when `contract` is neither True nor False.
    """
    values = assigned(name, text)
    if "revision" not in values:
        return None
    contract = literal(values["contract"]) if "contract" in values else False
    if not isinstance(contract, bool):
        raise Refused(f"{name}: `contract` is neither True nor False; the file is read and not run")
    revision = literal(values["revision"])
    down = names_in(values.get("down_revision")), names_in(values.get("depends_on"))
    if not isinstance(revision, str) or None in down:
        raise Unclear(f"{name} does not name its revision, or what it stands on, by plain text")
    return Revision(revision, tuple(dict.fromkeys((*down[0], *down[1]))), contract)


def assigned(name: str, text: str) -> dict[str, ast.expr]:
    """Return what a module assigns to names of its own, at its top level.

    :raises Unclear: when it is no Python to the controller's.
    """
    try:
        statements = ast.parse(text, name).body
    except (SyntaxError, ValueError) as error:
        raise Unclear(f"{name} cannot be read: {error}") from None
    values = {}
    for statement in statements:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets = [statement.target]
        values |= {target.id: statement.value for target in targets if isinstance(target, ast.Name)}
    return values


def literal(value: ast.expr) -> object:
    """Return a value that is written out, the node itself where it is computed."""
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError):
        return value


def names_in(value: ast.expr | None) -> tuple[str, ...] | None:
    """Return the revisions that one of Alembic's names lists, None where it is not written out."""
    found = literal(value) if value is not None else None
    if found is None:
        return ()
    found = (found,) if isinstance(found, str) else found
    good = isinstance(found, tuple | list | set) and all(isinstance(name, str) for name in found)
    return tuple(sorted(found) if isinstance(found, set) else found) if good else None


def in_order(revisions: dict[str, Revision], count: int) -> list[Revision]:
    """Return revisions with each after those it stands on.

    :param count: how many files there were: fewer revisions mean that two have one name.
    :raises Unclear: when they do not form one history.
    """
    if len(revisions) != count:
        raise Unclear("two files have one revision")
    for one in revisions.values():
        for name in one.down:
            if name not in revisions:
                # A shortened id, a branch's label, or a file that the wheel left out.
                raise Unclear(f"{one.name} stands on {name}, which is none of the files")
    try:
        order = TopologicalSorter({name: sorted(revisions[name].down) for name in sorted(revisions)})
        return [revisions[name] for name in order.static_order()]
    except CycleError as error:
        raise Unclear(f"revisions stand on each other: {', '.join(error.args[1])}") from None
