"""Note what a run of ansible-playbook did when: its tasks, how each ended, and what a task says of its parts.

Read by bench.deploy.runs: the file that BENCH_TASKS names is written once a run comes to its recap.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
    name: bench_tasks
    type: aggregate
    short_description: Write a run's tasks and their times to a file
    description: For the bench of deploys alone.
"""


class CallbackModule(CallbackBase):
    """Keep one entry a task, in the order of their starts."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "bench_tasks"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self.tasks: list[dict] = []

    def v2_playbook_on_task_start(self, task, is_conditional):
        """Begin an entry; the one before ends where this one begins."""
        self.tasks.append({"name": task.get_name(), "began": time.time(), "ran": 0, "parts": {}})

    def _ended(self, result) -> None:
        entry, said = self.tasks[-1], result.result
        entry["ran"] += 1
        if isinstance(said.get("duration_seconds"), dict):
            entry["parts"] = said["duration_seconds"]

    def v2_runner_on_ok(self, result):
        """Count a host on which it went well."""
        self._ended(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        """Count a host on which it failed."""
        self._ended(result)

    def v2_playbook_on_stats(self, stats):
        """Write the file."""
        noted = {"tasks": self.tasks, "ended": time.time()}
        Path(os.environ["BENCH_TASKS"]).write_text(json.dumps(noted))
