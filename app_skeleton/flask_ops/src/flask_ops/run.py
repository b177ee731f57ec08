"""Run a command as the app's server runs: ``python -m flask_ops.run 'flask --app shop db upgrade'``.

The command runs inside this very process wherever it is Python, so that secrets handed over by
:mod:`flask_ops.boot` never stand in the environment a process is started with. Words joined by ``&&`` run one
after the other. Anything else of a shell's syntax needs a shell, and a program that is not Python a process:
both are refused while there are secrets to hand over, which they would lay open.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points

from . import migrating
from .boot import export_secrets, secret_environment
from .settings import SettingError

_SHELL = re.compile(r"[|;<>`$*?()&\n]")


def main(arguments: list[str]) -> int | str | None:
    """Run the command and return its exit status, as :func:`sys.exit` takes it.

    :param arguments: the command, as one word or as several.
    """
    command = arguments[0] if len(arguments) == 1 else shlex.join(arguments)
    steps = [step.strip() for step in command.split("&&")]
    try:
        os.environ.update(migrating.environment())
        runs = None if any(_SHELL.search(step) for step in steps) else [_python(step) for step in steps]
        if runs is None or None in runs:
            return _as_shell(command)
        export_secrets()
        with migrating.frame() as attempt:
            return _all_of(steps, runs, attempt)
    except SettingError as error:
        return str(error)


def _all_of(
    steps: list[str], runs: list[Callable[[], object]], attempt: migrating.Attempt
) -> int | str | None:
    for step, run in zip(steps, runs, strict=True):
        try:
            status = attempt(partial(_status, step, run))
        except SystemExit as end:
            status = end.code
        if status not in (0, None):
            return status
    return 0


def _python(step: str) -> Callable[[], object] | None:
    """Return what runs a step in this process, or None if only a process of its own can."""
    try:
        words = shlex.split(step)
    except ValueError as error:
        raise SettingError(f"{step!r} is no command: {error}.") from None
    if not words:
        raise SettingError("The command is empty. Give one, such as: flask --app shop db upgrade")
    if words[0] in ("python", "python3"):
        if words[1:2] == ["-m"] and len(words) > 2:
            return lambda: runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        if len(words) > 1 and not words[1].startswith("-"):
            return lambda: runpy.run_path(words[1], run_name="__main__")
        return None
    scripts = entry_points(group="console_scripts", name=words[0])
    return next(iter(scripts)).load if scripts else None


def _status(step: str, run: Callable[[], object]) -> int | str | None:
    words = shlex.split(step)
    # What each kind expects to find: its own name, or its path, and what follows.
    sys.argv = words if words[0] not in ("python", "python3") else words[2 if words[1] == "-m" else 1 :]
    result = run()
    if words[0] not in ("python", "python3"):
        result = result()  # type: ignore[operator] # an entry point loads to a function
        return result if isinstance(result, int | str) else 0
    return 0


def _as_shell(command: str) -> int:
    if secret_environment():
        raise SettingError(
            f"{command!r} is not made of Python programs alone, and a process started by it would show the "
            "secrets of app_secret_environment. Name a console script or `python -m module`, joined by &&."
        )
    migrating.require_held_back(command)
    os.execv("/bin/sh", ["/bin/sh", "-c", command])  # noqa: S606 - the shell is what was asked for
    raise AssertionError("unreachable")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
