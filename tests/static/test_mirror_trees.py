"""`tree nginx systemd` shows a host: each file is somebody's, and reads as what lands there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from bundle import JINJA, TREES, Bundle, law
from jinja2 import TemplateSyntaxError, nodes

# What a reader of a unit or an nginx file would have to run in the head.
LOGIC = (
    nodes.For,
    nodes.Macro,
    nodes.CallBlock,
    nodes.FilterBlock,
    nodes.Assign,
    nodes.AssignBlock,
    nodes.Block,
)


@law
def test_every_mirror_file_is_installed_by_exactly_one_role(bundle: Bundle):
    installed: dict[str, list[str]] = {}
    for task in bundle.mirror_tasks:
        for name in bundle.mirrored_files(task):
            installed.setdefault(f"{task.args['tree']}/{name}", []).append(task.where)
    present = {
        path.removesuffix(".j2"): path
        for tree in TREES
        for path in bundle.files
        if path.startswith(f"{tree}/")
    }
    for name, path in present.items():
        where = installed.get(name, [])
        if not where:
            yield f"{path}:1: no role installs it: add it to a role's list of files, or remove it"
        elif len(where) > 1:
            yield f"{path}:1: is installed by {' and '.join(where)}: leave it to one role"
        if (bundle.root / path).is_symlink():
            yield f"{path}:1: is a link: a mirror holds files"
    for name in sorted(installed.keys() - present.keys()):
        yield (
            f"{installed[name][0]}: lists {name}, which is not in the tree: "
            "remove the line, or write the file"
        )
    for path in [
        path for path in present.values() if path.endswith(".j2") and path.removesuffix(".j2") in bundle.files
    ]:
        yield f"{path}:1: is there without .j2 as well: remove one"


@law
def test_roles_reach_the_mirror_by_links(bundle: Bundle):
    for task in bundle.mirror_tasks:
        tree = task.args["tree"]
        link = bundle.root / f"roles/{task.role}/templates/{tree}"
        if not link.is_symlink() or link.readlink() != Path(f"../../../{tree}"):
            yield (
                f"roles/{task.role}/templates/{tree}: link it: "
                f"ln -sfn ../../../{tree} roles/{task.role}/templates/{tree}"
            )
        if task.args.get("dest") != f"/etc/{tree}":
            yield (
                f"{task.where}: installs {tree}/ at {task.args.get('dest')}: the mirror lands at /etc/{tree}"
            )


@law
def test_only_templates_end_in_j2(bundle: Bundle):
    for path in [path for tree in TREES for path in bundle.below(tree)]:
        text = bundle.text(path)
        # `{{ $labels.x }}` is Prometheus' own: it fills in its alerts' words. In a console all is Go's.
        ours = not path.startswith("prometheus/console")
        holds = ours and re.search(r"\{\{(?! \$)|\{%", text)
        if holds and not path.endswith(".j2"):
            yield f"{path}:1: holds Jinja, and lands byte for byte: add .j2 to its name"
        if path.endswith(".j2") and not holds:
            yield f"{path}:1: holds no Jinja: drop .j2 from its name"


def logic(node: nodes.Node, depth: int = 0) -> Iterator[tuple[int, str]]:
    """Yield what a mirror file may not hold: conditions inside conditions, loops, macros, assignments."""
    for child in node.iter_child_nodes():
        if isinstance(child, LOGIC):
            yield child.lineno, f"{{% {type(child).__name__.lower()} %}}"
        if isinstance(child, nodes.If) and depth:
            yield child.lineno, "an {% if %} inside another"
        # An elif is one more If in jinja2's tree, beside the first and not inside it.
        inner = (
            depth + 1 if isinstance(child, nodes.If) and child not in getattr(node, "elif_", []) else depth
        )
        yield from logic(child, inner)


def included(bundle: Bundle, path: str) -> list[str]:
    """Return a tree's file and the role's templates it includes."""
    tree = JINJA.parse(bundle.text(path))
    names = [include.template.value for include in tree.find_all(nodes.Include)]
    return [path, *(f"roles/{bundle.owner_of(path)}/templates/{name}" for name in names)]


@law
def test_jinja_in_mirror_files_stays_at_one_level_of_if(bundle: Bundle):
    paths = {each for tree in TREES for path in bundle.below(tree, ".j2") for each in included(bundle, path)}
    for path in sorted(paths):
        try:
            for line, what in logic(JINJA.parse(bundle.text(path))):
                yield (
                    f"{path}:{line}: {what}: keep a mirror file at one level of {{% if %}}; compute in the "
                    "role's vars"
                )
        except TemplateSyntaxError as error:
            yield f"{path}:{error.lineno}: Jinja cannot read it: {error}"
