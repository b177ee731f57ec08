"""The project's tree as the laws read it: YAML with line numbers, tasks, Jinja's variables."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
import yaml
from ansible.playbook.block import Block
from ansible.playbook.handler import Handler
from ansible.playbook.task import Task as AnsibleTask

TASK_KEYWORDS = {
    "listen",
    "with_items",
    *Block.fattributes,
    *AnsibleTask.fattributes,
    *Handler.fattributes,
} - {
    # `action` names no module of its own; nobody here writes it, and then it must count as one.
    "action",
    "local_action",
}
BLOCK_PARTS = ("block", "rescue", "always")
# Keywords whose whole value is an expression, without braces.
EXPRESSIONS = {"when", "that", "until", "changed_when", "failed_when", "var"}
TREES = ("nginx", "prometheus", "systemd")


class Lined(dict):
    """A mapping that knows on which line it and each of its keys stand."""

    line: int
    lines: dict[str, int]


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Keeps lines; reads the tags of Ansible (`!vault`, `!unsafe`) as what they mark."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Lined:
    loader.flatten_mapping(node)
    result = Lined(loader.construct_pairs(node, deep=True))
    result.line = node.start_mark.line + 1
    result.lines = {str(loader.construct_object(key)): key.start_mark.line + 1 for key, _value in node.value}
    return result


def _tagged(loader: _Loader, _suffix: str, node: yaml.Node) -> Any:
    return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_multi_constructor("!", _tagged)


@functools.cache
def parse(text: str) -> Any:
    """Return what YAML holds. Nobody changes it, so equal texts share one answer."""
    return yaml.load(text, _Loader)


class _EveryFilter(dict):
    """Claims to know every filter and test: only the names of variables are wanted."""

    def get(self, _key: str, _default: object = None) -> Callable:
        return str

    def __contains__(self, _key: object) -> bool:
        return True


JINJA = jinja2.Environment(autoescape=False)  # nothing is rendered for a browser
JINJA.filters = JINJA.tests = _EveryFilter()
JINJA.globals.update(dict.fromkeys(("lookup", "query", "q", "now", "undef")))


@functools.cache
def variables_of(source: str) -> frozenset[str]:
    """Return the variables a template reads and does not set itself."""
    return frozenset(jinja2.meta.find_undeclared_variables(JINJA.parse(source)) - set(JINJA.globals))


@dataclass(frozen=True)
class Task:
    """One task, handler or block, with what it inherits from the blocks around it."""

    path: str
    data: Lined
    role: str | None
    parents: tuple[Lined, ...] = ()

    @property
    def where(self) -> str:
        return f"{self.path}:{self.data.line}"

    @property
    def name(self) -> str:
        return self.data.get("name") or "(no name)"

    @property
    def is_block(self) -> bool:
        return any(part in self.data for part in BLOCK_PARTS)

    @property
    def module(self) -> str:
        """The module's name as written; empty for a block."""
        found = [key for key in self.data if key not in TASK_KEYWORDS and not key.startswith("with_")]
        return found[0] if found else ""

    @property
    def args(self) -> Any:
        return self.data.get(self.module)

    def line_of(self, key: str) -> str:
        return f"{self.path}:{self.data.lines.get(key, self.data.line)}"


@dataclass
class Bundle:
    """The tree below `root`."""

    root: Path
    _read: dict[str, str] = field(default_factory=dict, repr=False)

    def text(self, path: str) -> str:
        """Return a file's text, empty where it is not there or no text."""
        if path not in self._read:
            try:
                self._read[path] = (self.root / path).read_text()
            except (FileNotFoundError, IsADirectoryError, UnicodeDecodeError):
                self._read[path] = ""
        return self._read[path]

    def yaml(self, path: str) -> Any:
        """Return a YAML file's content, None where it is not there or empty."""
        try:
            return parse(self.text(path))
        except yaml.YAMLError as error:
            raise AssertionError(f"{path} is no YAML: {error}") from error

    def mapping(self, path: str) -> Lined:
        """Return a YAML file that holds a mapping, an empty one where it is not there."""
        found = self.yaml(path)
        if isinstance(found, Lined):
            return found
        nothing = Lined()
        nothing.line, nothing.lines = 1, {}
        return nothing

    @functools.cached_property
    def files(self) -> list[str]:
        """Every file that git has or would take, links and their targets once each."""
        if (self.root / ".git").exists():
            command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
            listing = subprocess.run(
                command, cwd=self.root, capture_output=True, text=True, check=True
            ).stdout
            found = listing.split("\0")
        else:
            found = [
                str(Path(folder, name).relative_to(self.root))
                for folder, folders, names in os.walk(self.root)
                for name in [*names, *(link for link in folders if Path(folder, link).is_symlink())]
            ]
        return sorted(path for path in set(found) if path and os.path.lexists(self.root / path))

    def below(self, folder: str, suffix: str = "") -> list[str]:
        """Return the files below a folder, links left out."""
        return [
            path
            for path in self.files
            if path.startswith(f"{folder}/") and path.endswith(suffix) and not (self.root / path).is_symlink()
        ]

    @functools.cached_property
    def roles(self) -> list[str]:
        return sorted({path.split("/")[1] for path in self.below("roles") if path.count("/") > 1})

    @functools.cached_property
    def playbooks(self) -> list[str]:
        return [path for path in self.below("playbooks", ".yml") if path.count("/") == 1]

    @functools.cached_property
    def own_modules(self) -> set[str]:
        return {
            Path(path).stem
            for path in self.below("plugins", ".py")
            if path.split("/")[1] in ("modules", "action")
        }

    def task_files(self, role: str) -> list[str]:
        return self.below(f"roles/{role}/tasks", ".yml")

    def tasks(self, role: str) -> Iterator[Task]:
        """Yield a role's tasks and blocks."""
        for path in self.task_files(role):
            yield from walk(path, self.yaml(path), role)

    def handlers(self, role: str) -> list[Task]:
        path = f"roles/{role}/handlers/main.yml"
        return list(walk(path, self.yaml(path), role))

    @functools.cached_property
    def all_tasks(self) -> list[Task]:
        """Every task, block and handler of the roles, and of the playbooks."""
        found = [task for role in self.roles for task in [*self.tasks(role), *self.handlers(role)]]
        for path in self.playbooks:
            for play in self.yaml(path) or []:
                for part in ("pre_tasks", "tasks", "post_tasks", "handlers"):
                    found += walk(path, play.get(part), None)
        return found

    def spec(self, role: str) -> Lined:
        """Return a role's `main` argument spec: option name to option."""
        specs = self.mapping(f"roles/{role}/meta/argument_specs.yml").get("argument_specs") or {}
        return (specs.get("main") or {}).get("options") or Lined()

    def defaults(self, role: str) -> Lined:
        return self.mapping(f"roles/{role}/defaults/main.yml")

    def vars(self, role: str) -> Lined:
        return self.mapping(f"roles/{role}/vars/main.yml")

    @functools.cached_property
    def wiring(self) -> Lined:
        return self.mapping("playbooks/group_vars/all.yml")

    @functools.cached_property
    def mirror_tasks(self) -> list[Task]:
        """The tasks that install files of the mirror trees."""
        return [
            task
            for task in self.all_tasks
            if task.role and task.module == "mirror" and task.args.get("tree") in TREES
        ]

    def mirrored_files(self, task: Task) -> list[str]:
        """Return the files of a mirror task, a list in `vars` looked up."""
        files = task.args.get("files", [])
        if isinstance(files, str):
            name = re.fullmatch(r"\{\{ *(\w+) *\}\}", files)
            files = self.vars(task.role).get(name[1], []) if name else []
        return list(files)

    def owner_of(self, tree_file: str) -> str | None:
        """Return the role that installs a file such as `nginx/nginx.conf.j2`."""
        for task in self.mirror_tasks:
            if tree_file.removesuffix(".j2") in {
                f"{task.args['tree']}/{name}" for name in self.mirrored_files(task)
            }:
                return task.role
        return None


def walk(path: str, tasks: Any, role: str | None, parents: tuple[Lined, ...] = ()) -> Iterator[Task]:
    """Yield tasks, and blocks before what is in them."""
    for data in tasks or []:
        task = Task(path, data, role, parents)
        yield task
        for part in BLOCK_PARTS:
            yield from walk(path, data.get(part), role, (*parents, data))


def strings(value: Any, line: int, key: str = "") -> Iterator[tuple[str, str, int]]:
    """Yield every string below a value, with the key it stands under and its line."""
    if isinstance(value, Lined):
        for name, item in value.items():
            yield from strings(item, value.lines.get(str(name), value.line), str(name))
    elif isinstance(value, list):
        for item in value:
            yield from strings(item, item.line if isinstance(item, Lined) else line, key)
    elif isinstance(value, str):
        yield value, key, line


def variables_in(value: Any, line: int = 1, key: str = "") -> Iterator[tuple[str, int]]:
    """Yield the variables that a YAML value reads, each with its line."""
    for text, name, at in strings(value, line, key):
        if name in EXPRESSIONS or "{{" in text or "{%" in text:
            source = f"{{{{ {text} }}}}" if name in EXPRESSIONS and "{{" not in text else text
            try:
                for variable in variables_of(source):
                    yield variable, at
            except jinja2.TemplateSyntaxError as error:
                raise AssertionError(f"line {at}: Jinja cannot read {text!r}: {error}") from error


def law(claim: Callable[[Bundle], Iterator[str]]) -> Callable:
    """Make a test of a generator of findings; the generator stays reachable for the tests of the laws."""

    @functools.wraps(claim)
    def test(bundle: Bundle) -> None:
        __tracebackhide__ = True  # the findings say where; the way to them says nothing
        found = list(claim(bundle))
        if found:
            raise AssertionError("\n".join(["", *found]))

    test.findings = claim
    return test
