#!/usr/bin/python
"""Restart a unit under a new sandbox, see its service answer, or take the sandbox off again."""

from __future__ import annotations

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: restart_proven
short_description: Restart a unit under a drop-in, and go back without it if its service does not answer
description:
  - A sandbox that shuts out what a service needs on this very host would take it down.
  - Where it does not answer, the drop-in is renamed to C(<name>.refused), which systemd does not read, and
    the unit is restarted without it. The task then fails, with the last lines of the unit's journal.
options:
  unit:
    description: Name of the unit, with its suffix.
    type: str
    required: true
  drop_in:
    description: Path of the drop-in that may be at fault. One that was switched off is not there.
    type: path
    required: true
  proof:
    description: Shell command that succeeds when the service answers. It is tried again until it does.
    type: str
    required: true
  timeout_seconds:
    description: How long the service may take to answer.
    type: float
    default: 30
author: the project's authors
attributes:
  check_mode:
    support: full
"""

EXAMPLES = r"""
- name: Restart redis
  restart_proven:
    unit: redis-server.service
    drop_in: /etc/systemd/system/redis-server.service.d/50-sandbox.conf
    proof: redis-cli ping | grep -q PONG
"""

RETURN = r"""
refused:
  description: Where the drop-in lies that the service did not answer under.
  type: str
  returned: on failure, where there was one
"""

JOURNAL_LINES = "15"


class Unit:
    """A unit that is restarted until it is proven to serve."""

    def __init__(self, module: AnsibleModule) -> None:
        """Take what the task says."""
        self.module = module
        self.name = module.params["unit"]
        self.proof = ["/bin/sh", "-c", module.params["proof"]]

    def run(self, *words: str) -> tuple[int, str]:
        """Run a command; return its status and what it said."""
        status, out, err = self.module.run_command(list(words))
        return status, (out + err).strip()

    def restart(self) -> str:
        """Restart the unit and wait for its service; return why it does not answer, or nothing."""
        self.run("systemctl", "daemon-reload")
        # Earlier failures count against the unit's limit of starts, and would be taken for this one's.
        self.run("systemctl", "reset-failed", self.name)
        status, said = self.run("systemctl", "restart", self.name)
        if status:
            return said.partition("\n")[0].rstrip(".")
        deadline = time.monotonic() + self.module.params["timeout_seconds"]
        while True:
            status, said = self.run(*self.proof)
            if not status:
                return ""
            if time.monotonic() > deadline:
                return said or f"the proof ends with {status}"
            time.sleep(0.3)

    def journal(self) -> str:
        """Return the unit's last lines."""
        command = ["journalctl", "--no-pager", "--output=cat", "-n", JOURNAL_LINES, "-u", self.name]
        return self.run(*command)[1]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "drop_in": {"type": "path", "required": True},
            "proof": {"type": "str", "required": True},
            "timeout_seconds": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True)
    unit, drop_in = Unit(module), Path(module.params["drop_in"])
    why = unit.restart()
    if not why:
        module.exit_json(changed=True)
    words = f"{unit.name} does not answer after a restart: {why}"
    journal = unit.journal()
    if not drop_in.exists():
        module.fail_json(msg=f"{words}. Look: journalctl -u {unit.name} -n 50", journal=journal)
    refused = f"{drop_in}.refused"
    drop_in.replace(refused)
    still = unit.restart()
    now = f"It does not answer without it either: {still}" if still else "Without it, it answers"
    module.fail_json(
        msg=f"{words}. {drop_in} was taken off and lies in {refused}. {now}. "
        f"Look: journalctl -u {unit.name} -n 50",
        refused=refused,
        journal=journal,
    )


if __name__ == "__main__":
    main()
