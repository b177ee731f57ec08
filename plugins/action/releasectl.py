"""Run releasectl on a host in one round trip, sending the archives it needs along."""

from __future__ import annotations

import hashlib
import json
import shlex
from pathlib import Path, PurePosixPath

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

ARGUMENTS = {
    "app": {"type": "str", "required": True},
    "words": {"type": "list", "elements": "str", "required": True},
    "by": {"type": "str", "default": ""},
    "lock": {"type": "str", "default": ""},
    "archives": {"type": "list", "elements": "path", "default": []},
    "incoming_dir": {"type": "path", "default": ""},
    "program": {"type": "path", "default": "/usr/local/sbin/releasectl"},
}


class ActionModule(ActionBase):
    """Ask releasectl directly: a module would send itself first, and start a Python to start another."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Send, run, and return what releasectl answers; it fails where releasectl does."""
        result = super().run(tmp, task_vars)
        arguments = self._arguments()
        if self._task.check_mode:
            return {**result, "changed": False, "skipped": True, "rc": 0, "stdout": "", "stderr": ""}
        archives = [Path(path) for path in arguments["archives"]]
        contents = [read(path) for path in archives]
        script = "\n".join([*receiving(arguments["incoming_dir"], archives, contents), *running(arguments)])
        # Never nothing: without any input ssh gets a terminal, which mixes stderr into stdout.
        sent = b"".join(contents) or b"\n"
        done = self._low_level_execute_command(f"sh -c {shlex.quote(script)}", in_data=sent)
        answer = parsed(done["stdout"])
        result.update(done, changed=bool(answer.get("changed")), answer=answer)
        if done["rc"] != 0:
            result.update(failed=True, msg=failure(done, answer))
        return result

    def _arguments(self):
        checked = ArgumentSpecValidator(ARGUMENTS).validate(self._task.args)
        arguments = checked.validated_parameters
        problems = list(checked.error_messages)
        if arguments.get("archives") and not arguments.get("incoming_dir"):
            problems.append("`archives` need an `incoming_dir` to be sent to")
        if problems:
            raise AnsibleActionFail("releasectl: " + "; ".join(problems))
        return arguments


def read(path):
    """Return an archive's content."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise AnsibleActionFail(
            f"releasectl: {path} cannot be read: {error.strerror}. Build it again"
        ) from error


def receiving(incoming_dir, archives, contents):
    """Return the lines of a shell script that take archives from stdin, one after the other.

    Each gets its name once all of it is there. The coreutils' head reads no byte more than it is told to. At
    the end the folder is removed with what is left in it.
    """
    folder = shlex.quote(incoming_dir)
    # Of this run alone: another one that is refused takes nothing of this one's away.
    lines = ["set -eu", "umask 077", f"mkdir {folder}", f"trap 'rm -rf '{folder} EXIT"] if archives else []
    for path, content in zip(archives, contents, strict=True):
        place = PurePosixPath(incoming_dir, path.name)
        part, wanted = shlex.quote(f"{place}.part"), hashlib.sha256(content).hexdigest()
        lines += [
            f"head -c {len(content)} > {part}",
            f"sha256sum < {part} | grep -q '^{wanted} ' || {{ echo {part} arrived damaged >&2; exit 1; }}",
            f"mv {part} {shlex.quote(str(place))}",
        ]
    return lines


def running(arguments):
    """Return the lines that run releasectl and end as it does."""
    words = [arguments["program"], "--app", arguments["app"], "--json", *arguments["words"]]
    told = {"RELEASECTL_BY": arguments["by"], "RELEASECTL_LOCK": arguments["lock"]}
    exports = [f"export {name}={shlex.quote(value)}" for name, value in told.items() if value]
    return [*exports, f"{shlex.join(words)} < /dev/null"]


def parsed(text):
    """Return releasectl's answer; nothing where it broke off before it had one."""
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def failure(done, answer):
    """Return why it failed, in a line."""
    error = answer.get("error") or {}
    cause = error.get("cause") or done["stderr"].strip() or "no word"
    return f"releasectl ended with {done['rc']}: {cause}"
