"""What every task owes its reader, and every command its check mode."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from bundle import Bundle, Lined, law

COMMANDS = {f"ansible.builtin.{name}" for name in ("command", "shell", "raw", "script", "expect")}
# Commands that only look; {{ … }} reads as `_`. Whatever is not here says when it changed something.
READS = [
    r"/usr/bin/python3 -c \"import apt; .*\"",
    r"find _/rules -name 50-\*\.nft",
    r"find _ -name '[^']+' -printf '%f\\n'",
    r"test -n .\$\(find _ -name '[^']+' -not -name '[^']+' -print -quit\). && sed -n '[^']+' \S+",
    r"cursor=\$\(sed -n '[^']+' _\) .*; journalctl --quiet [^|;&]* \| head -n 1",
    r"getent (passwd|group) (_|redis)",
    r"(_ && )?cmp --silent _ _",
    r"cmp _ _ && sshd -T",
    r"apt-get --simulate --quiet dist-upgrade",
    r"grep --.*",
    r"id -un && id -Gn && echo .*",
    r"may_log_in _",
    r"needrestart -b -r l",
    r"openssl x509 -checkend .*",
    r"ssh -Q kex && ssh -Q cipher && ssh -Q mac",
    r"sshd -T",
    r"ss --no-header --listening --numeric --tcp --udp --processes",
    r"nft --json list table inet redis_clients",
    r"nginx -t( -q)?",
    r"_ -m pip_audit --require-hashes --disable-pip .*",
    r"releasectl --app _ (--json )?(status|list)",
    r"rabbitmqctl --quiet --formatter json list_(users|vhosts|user_permissions|queues)( .*)?",
    r"rabbitmqctl authenticate_user _ < _",
    r"tlsctl check _",
    r"sh -c _ visits\.sh .*",
    r"systemctl (list-units|show|is-active|is-enabled|cat|_) .*",
]
# The project's own modules that only look.
READING_MODULES = {"unit_stale"}
MODE = re.compile(r"0[0-7]{3}|[1-7][0-7]{3}|.*\{\{.*\}\}.*")


def command_line(args: Any) -> str:
    """Return a command as one line, each expression as `_`."""
    if isinstance(args, dict):
        args = args.get("cmd") or args.get("argv") or args.get("_raw_params") or ""
    words = " ".join(map(str, args)) if isinstance(args, list) else str(args)
    return " ".join(re.sub(r"\{\{.*?\}\}", "_", words, flags=re.DOTALL).split())


@law
def test_every_command_says_when_it_changed_something(bundle: Bundle):
    for task in bundle.all_tasks:
        if task.module in COMMANDS and "changed_when" not in task.data:
            yield f"{task.where}: “{task.name}” has no changed_when: say when it changed something"


@law
def test_only_commands_that_read_never_change_anything(bundle: Bundle):
    for task in bundle.all_tasks:
        if task.data.get("changed_when") is not False or task.module in READING_MODULES:
            continue
        line = command_line(task.args)
        if task.module not in COMMANDS or not any(re.fullmatch(read, line) for read in READS):
            yield (
                f"{task.line_of('changed_when')}: `{line}` is not known to only read: "
                "say when it changed something, "
                f"or add it to READS in {__name__}.py"
            )


@law
def test_every_module_is_named_in_full(bundle: Bundle):
    for task in bundle.all_tasks:
        if not task.is_block and task.module.count(".") < 2 and task.module not in bundle.own_modules:
            yield (
                f"{task.where}: {task.module or 'no module'} is neither namespace.collection.module nor "
                "one of plugins/"
            )


def modes(value: Any) -> Iterator[tuple[Any, int]]:
    """Yield every `mode` below a value with its line."""
    if isinstance(value, Lined):
        for key, item in value.items():
            if key in ("mode", "directory_mode"):
                yield item, value.lines[key]
            yield from modes(item)
    elif isinstance(value, list):
        for item in value:
            yield from modes(item)


@law
def test_modes_are_quoted_octal_strings(bundle: Bundle):
    paths = [
        path
        for role in bundle.roles
        for part in ("tasks", "handlers", "defaults", "vars")
        for path in bundle.below(f"roles/{role}/{part}", ".yml")
    ]
    for path in [*paths, *bundle.playbooks]:
        for mode, line in modes(bundle.yaml(path)):
            if not isinstance(mode, str) or not MODE.fullmatch(mode):
                yield f'{path}:{line}: mode {mode!r}: write four octal digits in quotes, such as "0644"'


@law
def test_every_task_and_play_has_a_name_that_begins_with_a_capital(bundle: Bundle):
    named = [(task.where, task.data.get("name")) for task in bundle.all_tasks]
    named += [
        (f"{path}:{play.line}", play.get("name"))
        for path in bundle.playbooks
        for play in bundle.yaml(path) or []
    ]
    for where, name in named:
        if not name:
            yield f"{where}: has no name: say its outcome, in the imperative"
        elif not name[0].isupper() or name.endswith("."):
            yield f"{where}: “{name}”: begin with a capital letter, and end without a full stop"
