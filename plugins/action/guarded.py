"""Change how a host is reached, and have it change back by itself unless somebody gets in anew."""

from __future__ import annotations

import shlex
import time

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "prepare": {"type": "str", "required": True},
    "apply": {"type": "str", "required": True},
    "revert": {"type": "str", "required": True},
    "keep": {"type": "str", "required": True},
    "seconds": {"type": "int", "default": 60},
}
# Share of the time in which a login must have come: the rest is for what cancels the way back.
LOGIN_SHARE = 0.6
# A connection of its own, whatever else the inventory says: of two values ssh takes the first.
ANEW = "-o ControlPath=none -o ConnectTimeout=5 "
PAUSE_SECONDS = 1
BACK_SECONDS = 30

# The timer is armed before anything changes, and belongs to systemd: it outlives this connection, and a
# controller that is gone. The way back is a file, for systemd would expand a $ on a command line. One that an
# earlier run left armed is gone first: what is prepared is the way back to what was known to let people in.
CHANGE = """\
set -eu
if systemctl --quiet is-active {name}-revert.timer; then systemctl start {name}-revert.service; fi
systemctl stop {name}-revert.timer 2>/dev/null || :
umask 077
{{ {prepare}
}} >&2
printf '%s\\n' {revert} > /run/{name}-revert.sh
printf '%s\\n' {apply} > /run/{name}-apply.sh
systemd-run --quiet --collect --unit={name}-revert --on-active={seconds} --timer-property=AccuracySec=100ms \
  sh -e /run/{name}-revert.sh
systemd-run --quiet --collect --unit={name}-apply --pipe --wait sh -e /run/{name}-apply.sh </dev/null
"""
BACK = "systemctl start {name}-revert.service; systemctl stop {name}-revert.timer"
# Stopping a timer that has gone off says nothing, so it is asked before, and its service after.
KEEP = """\
systemctl --quiet is-active {name}-revert.timer || {{ echo 'the time was over'; exit 1; }}
systemctl stop {name}-revert.timer
! systemctl --quiet is-active {name}-revert.service || {{ echo 'the time was over'; exit 1; }}
set -e
{keep}
"""


class ActionModule(ActionBase):
    """Arm the way back, change, log in anew, and only from there cancel the way back."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Change the host; fail with words where it had to change back."""
        result = super().run(tmp, task_vars)
        _, told = self.validate_argument_spec(ARGUMENTS)
        if self._task.check_mode:
            return {**result, "changed": True}
        host, started = task_vars["inventory_hostname"], time.monotonic()
        refused = self._change(told)
        if refused:
            return {**result, "failed": True, "msg": f"{host}: {told['name']} is as it was: {refused}"}
        cause = self._confirm(told, started + told["seconds"] * LOGIN_SHARE)
        if cause is None:
            return {**result, "changed": True}
        return {**result, "failed": True, "msg": f"{host}: {self._wait_for_way_back(told, started, cause)}"}

    def _change(self, told):
        """Arm and change. Return why the host refused to; a connection that is cut by it is no refusal."""
        quoted = {key: shlex.quote(told[key]) for key in ("apply", "revert")}
        try:
            done = self._shell(CHANGE.format(**{**told, **quoted}))
            if done["rc"] != 0:
                self._shell(BACK.format(**told))
                return said(done)
        except AnsibleConnectionFailure:
            pass
        return None

    def _confirm(self, told, deadline):
        """Log in by a connection of its own and cancel the way back. Return why that was not possible."""
        while True:
            try:
                done = self._anew(KEEP.format(**told))
                return None if done["rc"] == 0 else said(done)
            except AnsibleConnectionFailure as error:
                if time.monotonic() > deadline:
                    return str(error)
            time.sleep(PAUSE_SECONDS)

    def _wait_for_way_back(self, told, started, cause):
        """Return what came of it, once the time was over and somebody may get in again."""
        name = told["name"]
        time.sleep(max(0, started + told["seconds"] + PAUSE_SECONDS - time.monotonic()))
        words = f"with the new {name} nobody got in by a new connection ({cause.strip('. ')}), so the"
        deadline = time.monotonic() + BACK_SECONDS
        while time.monotonic() < deadline:
            try:
                self._anew("true")
            except AnsibleConnectionFailure:
                time.sleep(PAUSE_SECONDS)
            else:
                return f"{words} host went back to the old one by itself, and lets people in again"
        return f"{words} host should have gone back to the old one by itself; it does not let people in yet"

    def _anew(self, script):
        """Run a script on the host by a connection that is not the shared one.

        :raises AnsibleConnectionFailure: if it does not let us in.
        """
        if self._connection.transport != "ssh":
            return self._shell(script)
        usual = self._connection.get_option("ssh_args") or ""
        self._connection.set_option("ssh_args", ANEW + usual)
        try:
            return self._shell(script)
        finally:
            self._connection.set_option("ssh_args", usual)

    def _shell(self, script):
        # Never without input: ssh would then get a terminal.
        return self._low_level_execute_command(f"sh -c {shlex.quote(script)}", in_data=b"\n")


def said(done):
    """Return what a command said, on one line."""
    return " ".join(f"{done['stdout']} {done['stderr']}".split()) or f"exit status {done['rc']}"
