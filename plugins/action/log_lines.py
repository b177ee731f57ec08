"""Read the lines of a host's logs in one round trip, with the reader sent along."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import ansible.module_utils
from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

beside = str(Path(__file__).resolve().parents[1] / "module_utils")
if beside not in ansible.module_utils.__path__:
    ansible.module_utils.__path__.append(beside)

from ansible.module_utils.log_reader import packed, reader  # noqa: E402

ARGUMENTS = {
    "app": {"type": "str", "required": True},
    "asked": {"type": "dict", "default": {}},
    "state": {"type": "str", "choices": ["read", "check"], "default": "read"},
    "python": {"type": "path", "default": "/usr/bin/python3"},
}
# First a line with the question, then the archive, which stays in memory: nothing is left on the host.
PROGRAM = """
import os, sys
question = sys.stdin.buffer.readline()
held = os.memfd_create("releasectl")
with open(held, "wb", closefd=False) as file:
    file.write(sys.stdin.buffer.read())
sys.path.insert(0, f"/proc/self/fd/{held}")
from releasectl.asked import main
main(question)
"""


class ActionModule(ActionBase):
    """Ask with this controller's own reader: a host has an older one until site.yml ran, or none at all."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Refuse what cannot be asked; read, and return what the host answers. Nothing is changed."""
        result = super().run(tmp, task_vars)
        checked = ArgumentSpecValidator(ARGUMENTS).validate(self._task.args)
        if checked.error_messages:
            raise AnsibleActionFail("log_lines: " + "; ".join(checked.error_messages))
        arguments = checked.validated_parameters
        asked = {name: str(value) for name, value in arguments["asked"].items() if value != ""}
        if wrong := problems(asked):
            return {**result, "failed": True, "msg": wrong}
        if arguments["state"] == "check":
            return {**result, "changed": False}
        question = json.dumps({"app": arguments["app"], "asked": asked}).encode() + b"\n"
        command = f"{shlex.quote(arguments['python'])} -I -c {shlex.quote(PROGRAM)}"
        done = self._low_level_execute_command(command, in_data=question + packed())
        answer = parsed(done["stdout"])
        if done["rc"] != 0 or not answer:
            said = (done["stderr"].strip() or done["stdout"].strip() or "no word").splitlines()[-1]
            return {**result, "failed": True, "msg": f"its logs were not read: {said}"}
        return {**result, "changed": False, "answer": answer}


def problems(asked):
    """Return what is wrong with a question, naming the settings and what is right; empty where nothing is."""
    wanted = reader("wanted")
    strange = [f"{name} is none of {', '.join(wanted.RIGHT)}" for name in asked if name not in wanted.RIGHT]
    wrong = {} if strange else wanted.problems(asked)
    found = [f"logs_{name} is {json.dumps(asked[name])}: give {right}." for name, right in wrong.items()]
    return " ".join([*strange, *found])


def parsed(text):
    """Return a host's answer; nothing where it broke off before it had one."""
    try:
        return json.loads(text)
    except ValueError:
        return {}
