"""A lock's holder is taken for gone only where that is known."""

import subprocess
import sys
from pathlib import Path

import pytest
from target_host.shell import PROJECT_DIR

FOLDER = PROJECT_DIR / "plugins/filter"
sys.path.insert(0, str(FOLDER))

import controller_process as filters  # noqa: E402


@pytest.fixture
def playbook(tmp_path):
    """A process named as a playbook's, which has its children evaluate what it is given, as Ansible does."""
    program = tmp_path / "ansible-playbook"
    ask = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import controller_process as filters; "
    ask += "print(filters.controller_process('ansible-playbook'), flush=True)"
    program.write_text(
        f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {ask!r}])\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def test_name_is_the_playbooks_whichever_child_asks(playbook):
    name = playbook.stdout.readline().strip()
    assert name.split(":")[1] == str(playbook.pid)
    assert not filters.controller_process_gone(name)


def test_process_that_was_killed_is_gone(playbook):
    name = playbook.stdout.readline().strip()
    playbook.kill()
    # Not fetched by anybody yet, and ended all the same.
    while "Z" not in Path(f"/proc/{playbook.pid}/stat").read_text().rpartition(")")[2].split()[0]:
        pass
    assert filters.controller_process_gone(name)
    playbook.wait()
    assert filters.controller_process_gone(name)


def test_process_that_got_the_id_later_is_another(playbook):
    boot, pid, started = playbook.stdout.readline().strip().split(":")
    assert filters.controller_process_gone(f"{boot}:{pid}:{int(started) - 1}")


@pytest.mark.parametrize("name", ["", "somebody", "00000000-0000-4000-8000-000000000000:1:1"])
def test_of_others_nothing_is_known(name):
    assert not filters.controller_process_gone(name)
