"""Document the guarded action plugin, which needs no module on the host."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: guarded
short_description: Change how a host is reached, with a way back that needs nobody
version_added: "1.0"
description:
  - Arms a timer on the host that changes it back, then changes it, then logs in by a connection of its own,
    not the one Ansible shares between tasks. Only from there is the timer stopped and the change kept.
  - Where nobody gets in, the host goes back by itself when the time is over, and the task fails and says so.
  - Needs root on the host, and systemd.
options:
  name:
    description: Word in the names of the timer and of the files of this change, and in messages.
    type: str
    required: true
  prepare:
    description: Shell commands that note down what is there now, for the way back.
    type: str
    required: true
  apply:
    description: Shell commands that make the change.
    type: str
    required: true
  revert:
    description: Shell commands that go back to what C(prepare) noted.
    type: str
    required: true
  keep:
    description: Shell commands that make the change last, run once somebody got in.
    type: str
    required: true
  seconds:
    description: When the host goes back.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: It says that it would change something, and does nothing.
"""

EXAMPLES = r"""
- name: Change what sshd is told
  guarded:
    name: sshd
    prepare: cp --archive /etc/ssh/sshd_config.d/00-hardening.conf /run/sshd-previous.conf
    apply: |
      cp /etc/ssh/hardening.conf /etc/ssh/sshd_config.d/00-hardening.conf
      systemctl reload ssh.service
    revert: |
      cp --archive /run/sshd-previous.conf /etc/ssh/sshd_config.d/00-hardening.conf
      systemctl reload ssh.service
    keep: rm --force /run/sshd-previous.conf
"""

RETURN = r"""# """
