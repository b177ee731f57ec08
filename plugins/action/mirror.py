"""Render the files of a mirror tree on the controller and hand all of them to the host at once."""

from __future__ import annotations

import base64
import difflib
import json
import re
import zlib
from pathlib import Path

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

# What ansible.builtin.template uses, so that a file moves between the two without a changed byte.
TEMPLATE_OVERRIDES = {"trim_blocks": True, "lstrip_blocks": False, "newline_sequence": "\n"}


class ActionModule(ActionBase):
    """Turn a tree's names into rendered contents, then let the module of the same name install them."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp=None, task_vars=None):
        """Render every file first: one undefined variable must stop the task before the host is touched."""
        result = super().run(tmp, task_vars)
        names = self._mapping("names")
        root = self._find_tree()
        listed = self._names_below("files")
        sources = dict(zip(listed, find_sources(root, listed), strict=True))
        templar = self._templar_for(root, task_vars or {})
        payload = [
            {"path": place(name, names), "content": encode(self._render(templar, root, source))}
            for name, source in sources.items()
        ]
        refuse_doubles(payload)
        result.update(self._execute_module("mirror", self._module_args(payload, names), task_vars=task_vars))
        return result

    def _module_args(self, payload, names):
        args = dict(self._task.args)
        args["absent"] = [place(name, names) for name in self._names_below("absent")]
        args["exclusive"] = self._names_below("exclusive")
        args["payload"] = to_text(base64.b64encode(zlib.compress(to_bytes(json.dumps(payload)), 6)))
        return args

    def _find_tree(self):
        tree = self._task.args.get("tree")
        if not tree or not isinstance(tree, str):
            raise AnsibleActionFail("mirror: `tree` is required: a folder below the role's templates")
        try:
            root = Path(self._find_needle("templates", tree))
        except AnsibleError as error:
            raise AnsibleActionFail(f"mirror: no tree templates/{tree} in this role or playbook") from error
        if not root.is_dir():
            raise AnsibleActionFail(f"mirror: {root} is not a folder")
        return root

    def _names_below(self, option):
        value = self._task.args.get(option) or []
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise AnsibleActionFail(f"mirror: `{option}` must be a list of names")
        for name in value:
            if not name or name.startswith("/") or ".." in name.split("/"):
                raise AnsibleActionFail(f"mirror: `{option}` holds {name!r}: a name below the tree is wanted")
        return value

    def _mapping(self, option):
        value = self._task.args.get(option) or {}
        if not isinstance(value, dict):
            raise AnsibleActionFail(f"mirror: `{option}` must be a mapping of a word to what stands for it")
        for word, stand_in in value.items():
            if not stand_in or "/" in str(stand_in):
                raise AnsibleActionFail(f"mirror: `{option}` maps {word!r} to {stand_in!r}, no file name")
        return {str(word): str(stand_in) for word, stand_in in value.items()}

    def _templar_for(self, root, task_vars):
        """Search includes where ansible.builtin.template would, and in the tree itself."""
        bases = [*task_vars.get("ansible_search_path", []), self._loader.get_basedir()]
        searchpath = [str(root)]
        for base in bases:
            searchpath += [str(Path(base, "templates")), str(base)]
        return self._templar.copy_with_new_env(searchpath=searchpath, available_variables=task_vars)

    def _render(self, templar, root, source):
        if source.suffix != ".j2":
            return source.read_bytes()
        text = trust_as_template(self._loader.get_text_file_contents(str(source)))
        try:
            rendered = templar.template(text, escape_backslashes=False, overrides=TEMPLATE_OVERRIDES)
        except AnsibleError as error:
            name = Path(root.name, source.relative_to(root))
            raise AnsibleActionFail(f"mirror: cannot render {name}: {error}") from error
        return to_bytes("" if rendered is None else rendered)


def find_sources(root, names):
    """Return each name's file in the tree, or name every missing one with what is near.

    Raises AnsibleActionFail when a name is missing, or is there both with and without `.j2`.
    """
    sources, problems = [], []
    for name in names:
        found = [path for path in (root / f"{name}.j2", root / name) if path.is_file()]
        sources += found[:1]
        if len(found) > 1:
            problems.append(f"{name} is there twice, with and without .j2: remove one")
        elif not found:
            problems.append(f"{name} is not there{near(root, name)}")
    if problems:
        raise AnsibleActionFail(f"mirror: tree {root}: " + "; ".join(problems))
    return sources


def near(root, name):
    """Say which names of the tree resemble a missing one."""
    paths = (path for path in root.rglob("*") if path.is_file())
    present = sorted(str(path.relative_to(root)).removesuffix(".j2") for path in paths)
    alike = difflib.get_close_matches(name, present, n=3, cutoff=0.6)
    alike = alike or [other for other in present if other.rsplit("/", 1)[-1] == name.rsplit("/", 1)[-1]]
    return f" (did you mean {' or '.join(alike)}?)" if alike else ""


def place(name, names):
    """Return a tree's name as it lands: the leading word of each component replaced.

    `app.conf`, `app-web@.service`, `app@x` and a folder `app` begin with the word; `apps.conf` does not.
    """
    return "/".join(_replace_word(component, names) for component in name.split("/"))


def _replace_word(component, names):
    for word, stand_in in names.items():
        if re.match(re.escape(word) + r"(?=[.@-]|$)", component):
            return stand_in + component[len(word) :]
    return component


def refuse_doubles(payload):
    """Refuse two files that would land on the same path."""
    paths = [entry["path"] for entry in payload]
    doubles = sorted({path for path in paths if paths.count(path) > 1})
    if doubles:
        raise AnsibleActionFail(f"mirror: two files of the tree land at {', '.join(doubles)}")


def encode(content):
    """Return bytes as text that JSON can carry."""
    return to_text(base64.b64encode(content))
