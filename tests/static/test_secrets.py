"""No secret is in the repository, in a log or in a diff, and no host's key is taken on trust."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from bundle import EXPRESSIONS, JINJA, TREES, Bundle, Lined, Task, law, strings
from jinja2 import nodes

PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY")
SECRET_NAME = re.compile(r"(?:^|_)(?:password|passwd|passphrase|token|secret|api_key|secret_key)s?$")
# Each would let a stranger's host in.
TRUSTING = [
    re.compile(r"host_key_checking\s*[=:]\s*[\"']?(?:false|no|0|off)\b", re.IGNORECASE),
    re.compile(r"StrictHostKeyChecking[ =]+[\"']?(?:no|off|accept-new)\b", re.IGNORECASE),
    re.compile(r"UserKnownHostsFile[ =]+[\"']?/dev/null", re.IGNORECASE),
]
# Filters that turn secrets into something that is none.
NAMES_ONLY_METHODS = ("keys",)
NAMES_ONLY_FILTERS = ("list", "length", "count")


@law
def test_no_private_key_is_in_the_tree(bundle: Bundle):
    for path in bundle.files:
        for number, line in enumerate(bundle.text(path).splitlines(), 1):
            if PRIVATE_KEY.search(line):
                yield f"{path}:{number}: a private key: remove it, and make a new one; this one is known now"


@law
def test_no_variable_has_a_secret_as_its_default(bundle: Bundle):
    paths = [path for folder in ("roles", "playbooks", "inventory") for path in bundle.below(folder, ".yml")]
    for path in paths:
        for name, value, line in literals(bundle.yaml(path)):
            encrypted = isinstance(value, str) and value.lstrip().startswith("$ANSIBLE_VAULT")
            if is_secret(name) and isinstance(value, str) and value and "{{" not in value and not encrypted:
                yield (
                    f"{path}:{line}: {name} has a value that everybody can read: "
                    "leave it out, and refuse a run without it"
                )


def is_secret(name: str) -> bool:
    """Say whether a key such as `redis_password` or `app_secrets.signing` promises a secret."""
    return any(SECRET_NAME.search(part) for part in name.split("."))


def literals(value: Any, key: str = "", line: int = 1) -> Iterator[tuple[str, Any, int]]:
    """Yield every key with a plain value; below a key that holds secrets, with that key in front."""
    if isinstance(value, Lined):
        for name, item in value.items():
            at = value.lines.get(str(name), value.line)
            holder = f"{key}.{name}" if is_secret(key) else str(name)
            # What a spec says about an option stands below the option's name, and is no value of it.
            described = isinstance(item, Lined) and "description" in item
            if described and item.get("default"):
                yield str(name), item["default"], at
            elif not described:
                yield from literals(item, holder, at)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, Lined | list):
                yield from literals(item, "", line)
    else:
        yield key, value, line


def secret_names(bundle: Bundle) -> set[str]:
    """Return the variables that hold secrets: app_secrets, passwords, and what is made of them in vars."""
    found = {
        "app_secrets",
        "monitoring_secrets",
        *(name for role in bundle.roles for name in bundle.spec(role) if name.endswith("_password")),
    }
    vars_ = {}
    for role in bundle.roles:
        vars_ |= bundle.mapping(f"roles/{role}/vars/main.yml")
    texts = {name: [text for text, _, _ in strings(value, 0, name)] for name, value in vars_.items()}
    while more := {
        name
        for name, values in texts.items()
        if name not in found and any("{{" in text and handled(text, False, found) for text in values)
    }:
        found |= more
    return found


def handled(expression: str, bare: bool, secret: set[str]) -> bool:
    """Say whether an expression reads the value of a secret, not only names or a length."""
    tree = JINJA.parse(f"{{{{ {expression} }}}}" if bare and "{{" not in expression else expression)
    harmless = set()
    for node in tree.find_all((nodes.Getattr, nodes.Filter, nodes.Operand)):
        names = (
            (isinstance(node, nodes.Getattr) and node.attr in NAMES_ONLY_METHODS)
            or (isinstance(node, nodes.Filter) and node.name in NAMES_ONLY_FILTERS)
            or (isinstance(node, nodes.Operand) and node.op in ("in", "notin"))
        )
        below = node.expr if isinstance(node, nodes.Operand) else node.node
        if names and isinstance(below, nodes.Name):
            harmless.add(id(below))
    return any(name.name in secret and id(name) not in harmless for name in tree.find_all(nodes.Name))


def secret_lines(task: Task, secret: set[str]) -> list[int]:
    """Return the lines of a task that read the values of secrets.

    An assertion's `that` is left out: what is printed of it is its text, never a value.
    """
    own = {key: value for key, value in task.data.items() if key not in ("block", "rescue", "always")}
    found = []
    for key, value in own.items():
        for text, name, line in strings(value, task.data.lines.get(key, task.data.line), key):
            shown = task.module != "ansible.builtin.assert" or name not in EXPRESSIONS
            if (
                any(one in text for one in secret)
                and shown
                and ("{{" in text or name in EXPRESSIONS)
                and handled(text, name in EXPRESSIONS, secret)
            ):
                found.append(line)
    return found


@law
def test_tasks_that_handle_secrets_log_nothing(bundle: Bundle):
    secret = secret_names(bundle)
    for task in bundle.all_tasks:
        for line in secret_lines(task, secret):
            if task.data.get("no_log") is not True:
                yield f"{task.path}:{line}: “{task.name}” handles the values of secrets: add no_log: true"
            if task.data.get("diff") is not False:
                yield (f"{task.path}:{line}: “{task.name}” would show secrets under --diff: add diff: false")


@law
def test_no_template_holds_a_secret(bundle: Bundle):
    """Secrets land as credentials, each in a file of its own, never among a service's settings."""
    for path in [path for folder in ("roles", *TREES) for path in bundle.below(folder, ".j2")]:
        for number, line in enumerate(bundle.text(path).splitlines(), 1):
            if re.search(r"\b(app|monitoring)_secrets\b", line):
                yield f"{path}:{number}: renders app_secrets: give the app a credential instead"


@law
def test_host_keys_are_always_checked(bundle: Bundle):
    for path in bundle.files:
        for number, line in enumerate(bundle.text(path).splitlines(), 1):
            if any(pattern.search(line) for pattern in TRUSTING):
                yield f"{path}:{number}: takes any host's key: pin the key in a known_hosts file instead"
    if not re.search(r"^host_key_checking = True$", bundle.text("ansible.cfg"), re.MULTILINE):
        yield "ansible.cfg:1: say `host_key_checking = True`, so that no environment's default decides"
