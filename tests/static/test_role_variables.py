"""Every variable says whose it is, and only its owner reads it."""

from __future__ import annotations

from collections.abc import Iterator

from bundle import JINJA, TREES, Bundle, law, variables_in, variables_of

# What Ansible provides by itself.
MAGIC = {
    "ansible_check_mode",
    "ansible_facts",
    "ansible_playbook_python",
    "group_names",
    "groups",
    "hostvars",
    "inventory_dir",
    "inventory_hostname",
    "ansible_play_hosts",
    "ansible_play_hosts_all",
    "item",
    "omit",
    "playbook_dir",
    "role_path",
}


def declared_by_tasks(bundle: Bundle) -> Iterator[tuple[str | None, str, str, str]]:
    """Yield role, how, name and place of every variable that tasks make."""
    for task in bundle.all_tasks:
        made = [("register", task.data.get("register"), "register")]
        if task.module == "ansible.builtin.set_fact":
            made += [("set_fact", name, task.module) for name in task.args if name != "cacheable"]
        made += [("vars", name, "vars") for name in task.data.get("vars") or {}]
        made += [("loop_var", (task.data.get("loop_control") or {}).get("loop_var"), "loop_control")]
        for how, name, key in made:
            if name:
                yield task.role, how, name, task.line_of(key)


def declared(bundle: Bundle) -> Iterator[tuple[str | None, str, str, str]]:
    """Yield role, how, name and place of every variable the project declares."""
    for role in bundle.roles:
        for how, found in (("default", bundle.defaults(role)), ("vars", bundle.vars(role))):
            path = f"roles/{role}/{'defaults' if how == 'default' else 'vars'}/main.yml"
            yield from ((role, how, name, f"{path}:{found.lines[name]}") for name in found)
        yield from (
            (role, "spec", name, f"roles/{role}/meta/argument_specs.yml") for name in bundle.spec(role)
        )
    yield from declared_by_tasks(bundle)


def read_by(bundle: Bundle, role: str) -> Iterator[tuple[str, str]]:
    """Yield every variable a role reads, with its place; the mirror files it installs are its own."""
    for folder in ("tasks", "handlers", "defaults", "vars"):
        for path in bundle.below(f"roles/{role}/{folder}", ".yml"):
            yield from ((name, f"{path}:{line}") for name, line in variables_in(bundle.yaml(path)))
    for path in templates_of(bundle, role):
        for number, line in enumerate(bundle.text(path).splitlines(), 1):
            yield from (
                (name, f"{path}:{number}") for name in words_of(line) & variables_of(bundle.text(path))
            )


def words_of(line: str) -> set[str]:
    """Return the words of a template's line that may be variables, to find the line a finding stands on."""
    return {text for _number, kind, text in JINJA.lex(line) if kind == "name"} if "{" in line else set()


def templates_of(bundle: Bundle, role: str) -> list[str]:
    """Return a role's templates, and the files of the mirror it installs."""
    mirrored = [path for tree in TREES for path in bundle.below(tree, ".j2") if bundle.owner_of(path) == role]
    return bundle.below(f"roles/{role}/templates", ".j2") + mirrored


@law
def test_every_variable_begins_with_its_roles_name(bundle: Bundle):
    for role, how, name, where in declared(bundle):
        if role is None:
            # A playbook owns no variables: what it makes carries the name of the role it speaks with.
            if not any(name.startswith((f"__{other}_", f"{other}_")) for other in bundle.roles):
                yield f"{where}: {how} {name} begins with no role's name: call it __<role>_{name.lstrip('_')}"
        elif how in ("default", "spec"):
            if not name.startswith(f"{role}_"):
                yield f"{where}: {how} {name}: call it {role}_{name.lstrip('_')}"
        elif not name.startswith(f"__{role}_"):
            yield (
                f"{where}: {how} {name} is the role's own business: "
                f"call it __{role}_{name.removeprefix(f'{role}_').lstrip('_')}"
            )


@law
def test_a_role_reads_no_other_roles_variables(bundle: Bundle):
    for role in bundle.roles:
        others = tuple(
            f"{dunder}{other}_" for other in bundle.roles if other != role for dunder in ("", "__")
        )
        for name, where in read_by(bundle, role):
            if name.startswith(others) and not name.startswith((f"{role}_", f"__{role}_")):
                yield (
                    f"{where}: role {role} reads {name}, another role's: give {role} a variable of its own "
                    "and hand it over in playbooks/group_vars/all.yml"
                )


@law
def test_every_variable_a_role_reads_is_declared(bundle: Bundle):
    everything = list(declared(bundle))
    for role in bundle.roles:
        known = MAGIC | {name for owner, _how, name, _where in everything if owner == role}
        for name, where in read_by(bundle, role):
            if name not in known and name.startswith((f"{role}_", f"__{role}_")):
                yield (
                    f"{where}: nobody declares {name}: correct it, or add it to defaults, vars or a register "
                    f"of roles/{role}"
                )
            elif name not in known and not name.startswith(tuple(f"{x}_" for x in (*bundle.roles, "__"))):
                yield f"{where}: nobody declares {name}, and it is none of Ansible's: correct it"


@law
def test_every_default_is_read_by_somebody(bundle: Bundle):
    wired = {name for name, _line in variables_in(bundle.wiring)}
    for role in bundle.roles:
        read = wired | {name for name, _where in read_by(bundle, role)}
        for name in bundle.spec(role):
            if name not in read:
                yield f"roles/{role}/meta/argument_specs.yml: nothing reads {name}: remove it, or use it"
