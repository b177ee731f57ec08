"""Ansible itself reads every playbook."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bundle import Bundle


def syntax_check(bundle: Bundle, playbooks: list[str]) -> subprocess.CompletedProcess[str]:
    """Let Ansible parse playbooks, with the roles and tasks they import."""
    inventory = "inventory/local/hosts.yml" if bundle.text("inventory/local/hosts.yml") else "localhost,"
    program = Path(sys.executable).with_name("ansible-playbook")
    return subprocess.run(
        [str(program), "--syntax-check", "--inventory", inventory, *playbooks],
        cwd=bundle.root,
        env={**os.environ, "ANSIBLE_CONFIG": str(bundle.root / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_ansible_parses_every_playbook(bundle):
    assert bundle.playbooks
    done = syntax_check(bundle, bundle.playbooks)
    assert done.returncode == 0, done.stdout + done.stderr
