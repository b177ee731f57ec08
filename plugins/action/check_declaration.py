"""Refuse variables that no role declares, before anything changes."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.action import ActionBase
from ansible.vars.reserved import is_reserved_name

try:  # Where a value came from is kept for messages like ours; without it they name no file.
    from ansible._internal._datatag._tags import Origin
except ImportError:  # pragma: no cover
    Origin = None

ARGUMENTS = {
    "roles_path": {"type": "path", "default": ""},
    "allow": {"type": "list", "elements": "str", "default": []},
}
# Variables that Ansible itself adds to every host, beside those that begin with `ansible_`.
MAGIC = frozenset(
    "environment group_names groups hostvars inventory_dir inventory_file inventory_hostname"  # noqa: SIM905
    " inventory_hostname_short item omit play_hosts playbook_dir role_name role_names role_path role_uuid"
    " vars".split()
)
# At this likeness `ngnix_https_port` is refused and `web_https_port` is the user's own.
NEAR = 0.88
# A prefix names its role, so that within it a farther name may still be what was meant.
NEAR_WITHIN_ROLE = 0.6


@dataclass
class Declared:
    """What the roles say: their names, the variables they declare, and those they removed."""

    roles: list[str]
    # Each name with what its spec says of it.
    names: dict[str, dict]
    removed: dict[str, str]


class ActionModule(ActionBase):
    """Compare a host's variables with every role's argument spec."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Collect every finding, then fail once."""
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = self._arguments()
        roles_path = Path(arguments["roles_path"] or Path(task_vars["playbook_dir"], "..", "roles")).resolve()
        declared = self._read_roles(roles_path)
        declared.names.update(dict.fromkeys(arguments["allow"]))
        names = [name for name in task_vars if is_the_users(name, task_vars[name], roles_path)]
        findings = [
            {**found, "where": where(name, task_vars)}
            for name in sorted(names)
            for found in [*judge(name, declared), *judge_items(name, task_vars[name], declared)]
        ]
        if findings:
            return {**result, **failure(task_vars["inventory_hostname"], findings), "checked": len(names)}
        return {**result, "changed": False, "checked": len(names)}

    def _arguments(self):
        checked = ArgumentSpecValidator(ARGUMENTS).validate(self._task.args)
        if checked.error_messages:
            raise AnsibleActionFail("check_declaration: " + "; ".join(checked.error_messages))
        return checked.validated_parameters

    def _read_roles(self, roles_path):
        declared = Declared([], {}, {})
        for spec in sorted(roles_path.glob("*/meta/argument_specs.y*ml")):
            declared.roles.append(spec.parents[1].name)
            for entry_point in (self._load(spec).get("argument_specs") or {}).values():
                declared.names.update((entry_point or {}).get("options") or {})
            for removed in spec.parent.glob("removed_variables.y*ml"):
                declared.removed.update(self._load(removed))
        if not declared.roles:
            raise AnsibleActionFail(
                f"check_declaration: no role with meta/argument_specs.yml in {roles_path}"
            )
        return declared

    def _load(self, path):
        # Not through Ansible's loader, which tags each of some thousand words with where it stands.
        return yaml_load(path.read_text()) or {}


def is_the_users(name, value, roles_path):
    """Tell whether a person wrote this variable: not Ansible, not a role."""
    if name in MAGIC or name.startswith(("ansible_", "__")) or is_reserved_name(name):
        return False
    origin = origin_of(name, value)
    return not (origin and origin.path and Path(origin.path).is_relative_to(roles_path))


def judge(name, declared):
    """Return what is wrong with a variable's name, as a list of one finding or none."""
    if name in declared.removed:
        return [{"name": name, "problem": "removed variable", "remedy": f"use now: {declared.removed[name]}"}]
    if name in declared.names:
        return []
    role = next((role for role in declared.roles if name.startswith(f"{role}_")), None)
    # difflib compares with itself what differs in length by far; sorting makes equal ones come out the same.
    near = difflib.get_close_matches(name, sorted(declared.names), 1, NEAR_WITHIN_ROLE if role else NEAR)
    if not role and not near:
        return []
    remedy = f"did you mean `{near[0]}`?" if near else f"no variable of role {role} resembles it"
    return [{"name": name, "problem": "unknown variable", "remedy": remedy}]


def judge_items(name, value, declared):
    """Return what is wrong with the keys of a list of mappings, and with words that must be one of a few.

    The argument spec refuses them as well, but only names all that would have been right.
    """
    options = (declared.names.get(name) or {}).get("options")
    items = value if options and isinstance(value, list) else []
    found = []
    for number, item in enumerate(items, 1):
        for key, word in item.items() if isinstance(item, Mapping) else ():
            place = f"{name}, item {number}, {key}"
            choices = (options.get(key) or {}).get("choices")
            if key not in options:
                found.append({"name": place, "problem": "unknown key", "remedy": meant(str(key), options)})
            elif choices and word not in choices and "{{" not in str(word):
                found.append(
                    {
                        "name": place,
                        "problem": f"unknown value {word!r} of",
                        "remedy": meant(str(word), choices),
                    }
                )
    return found


def meant(word, known):
    """Return the remedy for a word that is none of the known ones."""
    near = difflib.get_close_matches(word, sorted(known), 1, NEAR_WITHIN_ROLE)
    return f"did you mean `{near[0]}`?" if near else f"it is one of {', '.join(sorted(known))}"


def origin_of(name, value):
    """Return where a variable was set, as Ansible tagged its name or its value."""
    if Origin is None:
        return None
    return Origin.get_tag(name) or Origin.get_tag(value)


def where(name, task_vars):
    """Return a variable's file and line, as a person would open it."""
    key = next(key for key in task_vars if key == name)
    origin = origin_of(key, task_vars[key])
    if not origin:
        return ""
    if not origin.path:
        return origin.description
    path = os.path.relpath(origin.path)
    path = origin.path if path.startswith("..") else path
    return f"{path}:{origin.line_num}" if origin.line_num else path


def failure(host, findings):
    """Return the result of a refusal: one line a variable, and what to do."""
    lines = []
    for finding in findings:
        place = f" in {finding['where']}" if finding["where"] else ""
        lines.append(f"host {host}: {finding['problem']} `{finding['name']}`{place}, {finding['remedy']}")
    lines.append(
        "Correct or remove them. A variable of your own is welcome under a name that begins with no role's,"
        " or listed in `allow` of this task. Nothing was changed."
    )
    findings = [{key: finding[key] for key in ("name", "where", "remedy")} for finding in findings]
    return {"failed": True, "msg": "\n".join(lines), "unknown_variables": findings}
