"""A small Ansible project in a temporary folder, run for real with the plugins of this repository.

`ansible-playbook` is run by its own entry point in a forked child: the plugins, the module and its
transfer are the real ones, only the second spent importing Ansible is paid once instead of at every run.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import NoReturn

import yaml

ROOT = Path(__file__).resolve().parents[3]
PLUGINS = ROOT / "plugins"

# Machines that write no byte code compile Ansible anew at every start, which doubles a run's time.
CACHED_BYTE_CODE = {"PYTHONPYCACHEPREFIX": str(ROOT / ".cache" / "pycache"), "PYTHONDONTWRITEBYTECODE": ""}


def cache_byte_code() -> None:
    """Let this process keep what it compiles."""
    sys.dont_write_bytecode = False
    sys.pycache_prefix = CACHED_BYTE_CODE["PYTHONPYCACHEPREFIX"]


@contextlib.contextmanager
def importing():
    """Hold what an import of Ansible reads; tests of other folders in this process see none of it."""
    before = os.environ.get("ANSIBLE_CONFIG"), sys.dont_write_bytecode, sys.pycache_prefix
    os.environ["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
    cache_byte_code()
    yield
    config, sys.dont_write_bytecode, sys.pycache_prefix = before
    os.environ.pop("ANSIBLE_CONFIG")
    os.environ.update({} if config is None else {"ANSIBLE_CONFIG": config})


with importing():
    import ansible.module_utils
    from ansible import constants
    from ansible.cli.playbook import PlaybookCLI

# Helper code of modules is imported as it is on a host: below ansible.module_utils.
ansible.module_utils.__path__.append(str(PLUGINS / "module_utils"))


LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}


class Project:
    """A playbook, an inventory and roles in one folder."""

    def __init__(self, path: Path):
        self.path = path
        self.inventory = {"all": {"hosts": {"web1": dict(LOCAL)}}}

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file below the project."""
        target = self.path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return target

    def role(self, name: str, tasks: list[dict], **files: str) -> None:
        """Write a role with tasks."""
        self.write(f"roles/{name}/tasks/main.yml", yaml.safe_dump(tasks, sort_keys=False))
        for path, content in files.items():
            self.write(f"roles/{name}/{path}", content)

    def play(self, tasks: list[dict] | None = None, *options: str, **play) -> Run:
        """Run a play over web1 and return what every task reported."""
        book = {"hosts": "all", "gather_facts": False, **play}
        if tasks:
            book["tasks"] = tasks
        playbook = self.write("site.yml", yaml.safe_dump([book], sort_keys=False))
        if not (self.path / "inventory/hosts.yml").exists():
            self.write("inventory/hosts.yml", yaml.safe_dump(self.inventory))
        return Run(*self._fork(["ansible-playbook", "-i", "inventory/hosts.yml", str(playbook), *options]))

    def _fork(self, words: list[str]) -> tuple[int, str]:
        log = self.path / "log"
        child = os.fork()
        if child == 0:
            self._become(words, os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), log.read_text()

    def _become(self, words: list[str], stream: int) -> NoReturn:
        """Be ansible-playbook until the end of the process."""
        os.chdir(self.path)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.environ.update(CACHED_BYTE_CODE)
        cache_byte_code()
        constants.DEFAULT_STDOUT_CALLBACK = "ansible.posix.json"
        code = 250
        try:
            PlaybookCLI.cli_executor(words)
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


class Run:
    """What a playbook run printed, task by task."""

    def __init__(self, code: int, output: str):
        self.code, self.output = code, output
        start = output.find('{\n    "custom_stats"')
        report = json.JSONDecoder().raw_decode(output[start:])[0] if start >= 0 else {"plays": []}
        self.results = [
            {"task": task["task"]["name"], **task["hosts"]["web1"]}
            for play in report["plays"]
            for task in play["tasks"]
            if "web1" in task["hosts"]
        ]

    @property
    def last(self) -> dict:
        """The last task's result."""
        assert self.results, self.output
        return self.results[-1]
