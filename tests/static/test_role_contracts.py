"""A role is a contract: its spec, its defaults, its README and its verbs say one thing."""

from __future__ import annotations

import yaml
from bundle import Bundle, Task, law, variables_in
from role_readmes import stale

# A role's main.yml converges a host in this order. `release` converges nothing: it asks, and deploys
# once; `audit`, `logs` and `visits` only look.
VERBS = ("preflight", "install", "configure", "service")
OTHER_VERBS = {
    "release": ("preflight", "status", "resume", "deploy"),
    "audit": ("preflight", "measure", "report"),
    "logs": ("preflight", "read", "show"),
    "visits": ("preflight", "install", "report"),
}


@law
def test_defaults_and_argument_spec_agree_in_keys_and_values(bundle: Bundle):
    for role in bundle.roles:
        spec, defaults = bundle.spec(role), bundle.defaults(role)
        spec_path, defaults_path = f"roles/{role}/meta/argument_specs.yml", f"roles/{role}/defaults/main.yml"
        for name in sorted({*spec, *defaults}):
            at = f"{defaults_path}:{defaults.lines.get(name, 1)}"
            option = spec.get(name)
            if option is None:
                yield f"{at}: {name} is not in {spec_path}: describe it there"
            elif option.get("required"):
                if name in defaults or "default" in option:
                    yield f"{at}: {name} is required, and has a default: keep one of the two"
            elif name not in defaults:
                yield (
                    f"{spec_path}:{spec.lines[name]}: {name} has no line in {defaults_path}: "
                    "add it, or make it required"
                )
            elif "default" not in option:
                yield f"{spec_path}:{spec.lines[name]}: {name} has no default: repeat {defaults[name]!r}"
            elif (type(option["default"]), option["default"]) != (type(defaults[name]), defaults[name]):
                yield (
                    f"{at}: {name} is {defaults[name]!r}, but {option['default']!r} in {spec_path}: "
                    "repeat the one that is right"
                )


@law
def test_every_entry_point_is_an_alias_of_main(bundle: Bundle):
    for role in bundle.roles:
        path = f"roles/{role}/meta/argument_specs.yml"
        root = yaml.compose(bundle.text(path), yaml.SafeLoader)
        entries = next(
            (value.value for key, value in getattr(root, "value", []) if key.value == "argument_specs"), []
        )
        nodes = {key.value: value for key, value in entries}
        if "main" not in nodes:
            yield f"{path}:1: no entry point main: describe the role's variables there"
        for key, value in entries:
            line = key.start_mark.line + 1
            if value is not nodes.get("main"):
                yield (
                    f"{path}:{line}: entry point {key.value} is written out: "
                    f"make it `*{role}`, or the two drift apart"
                )
            if f"roles/{role}/tasks/{key.value}.yml" not in bundle.files:
                yield (
                    f"{path}:{line}: there is no tasks/{key.value}.yml to enter: "
                    "remove the entry point or write it"
                )


@law
def test_role_readmes_are_written_from_the_spec(bundle: Bundle):
    for path, _wanted in stale(bundle.root):
        yield (
            f"{path.relative_to(bundle.root)}:1: not as its spec says: "
            "run `python tests/static/role_readmes.py --write`"
        )


def entered_file(task: Task) -> str:
    """Return the name, without its ending, of the task file that an import or include enters."""
    named = task.args["file"] if isinstance(task.args, dict) else task.args
    return str(named).removesuffix(".yml")


@law
def test_main_is_only_the_list_of_fixed_verbs(bundle: Bundle):
    for role in bundle.roles:
        path = f"roles/{role}/tasks/main.yml"
        verbs = OTHER_VERBS.get(role, VERBS)
        imported = []
        for task in (task for task in bundle.tasks(role) if task.path == path):
            if task.module not in ("ansible.builtin.import_tasks", "ansible.builtin.include_tasks"):
                yield (
                    f"{task.where}: main.yml holds {task.module or 'a block'}: "
                    f"move it into one of {', '.join(verbs)}"
                )
                continue
            imported.append(entered_file(task))
            if imported[-1] not in verbs:
                yield f"{task.where}: {imported[-1]} is none of the verbs {', '.join(verbs)}"
        if imported != [verb for verb in verbs if verb in imported]:
            yield f"{path}:1: verbs stand as {', '.join(imported)}: order them as {', '.join(verbs)}"
        if imported[:1] != ["preflight"]:
            yield f"{path}:1: a role looks before it touches: import preflight.yml first"


@law
def test_every_task_file_is_entered_by_somebody(bundle: Bundle):
    entered = {(role, "main") for role in bundle.roles}
    for task in bundle.all_tasks:
        if task.module in ("ansible.builtin.import_tasks", "ansible.builtin.include_tasks"):
            entered.add((task.role, entered_file(task)))
        elif task.module in ("ansible.builtin.import_role", "ansible.builtin.include_role"):
            named = [task.args["name"]]
            if "{{" in named[0]:
                named = [
                    item["role"] if isinstance(item, dict) else item for item in task.data.get("loop", [])
                ]
            entered |= {(role, task.args.get("tasks_from", "main")) for role in named}
    for role in bundle.roles:
        for path in bundle.task_files(role):
            if (role, path.rpartition("/")[2].removesuffix(".yml")) not in entered:
                yield f"{path}:1: no playbook and no task enters it: remove it"
    for role, name in sorted(entered):
        if role in bundle.roles and f"roles/{role}/tasks/{name}.yml" not in bundle.files:
            yield f"roles/{role}/tasks/{name}.yml: is entered, and not there: write it"


@law
def test_one_noun_names_role_tag_and_test(bundle: Bundle):
    tags = {}
    for path in bundle.playbooks:
        for play in bundle.yaml(path) or []:
            for entry in play.get("roles") or []:
                if isinstance(entry, dict):
                    tags[entry["role"]] = (f"{path}:{entry.line}", entry.get("tags"))
    for role in bundle.roles:
        where, tag = tags.get(role, (f"roles/{role}", None))
        if tag is None:
            yield (
                f"{where}: no play of playbooks/ takes the role {role} with its tag: "
                f"write {{role: {role}, tags: [{role}]}}"
            )
        elif tag != [role]:
            yield f"{where}: role {role} has the tags {tag}: tag it [{role}]"
        named = bundle.mapping(f"roles/{role}/meta/main.yml").get("galaxy_info", {}).get("role_name")
        if named != role:
            yield f"roles/{role}/meta/main.yml:1: role_name is {named}: write {role}"
        if f"tests/target/test_{role}.py" not in bundle.files:
            yield (
                f"tests/target/test_{role}.py: is missing: "
                f"write there what a host must show once the role {role} ran"
            )


@law
def test_wiring_hands_over_only_what_a_role_declares(bundle: Bundle):
    path = "playbooks/group_vars/all.yml"
    for name, line in bundle.wiring.lines.items():
        roles = [role for role in bundle.roles if name.startswith(f"{role}_")]
        if not name.startswith("__") and not any(name in bundle.spec(role) for role in roles):
            yield (
                f"{path}:{line}: no role declares {name}: correct its name, or describe it in the role's spec"
            )
        for variable, at in variables_in(bundle.wiring[name], line):
            owners = [role for role in bundle.roles if variable.startswith(f"{role}_")]
            if owners and not any(variable in bundle.spec(role) for role in owners):
                yield f"{path}:{at}: no role declares {variable}, which {name} reads"
