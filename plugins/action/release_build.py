"""Build a release in Ansible's own process: the module of this name, without the detour of a module."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import ansible.module_utils
from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase

PLUGINS_DIR = Path(__file__).resolve().parents[1]


class ActionModule(ActionBase):
    """Call what the module calls, on the controller and with Ansible's own interpreter in any case.

    As a module it would be packed, started and unpacked first, and its code compiled anew each time: together
    longer than the build of a change takes.
    """

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Build, or say what has to be put right first."""
        result = super().run(tmp, task_vars)
        builder = loaded()
        checked = ArgumentSpecValidator(builder.argument_spec()).validate(self._task.args)
        if checked.unsupported_parameters:
            raise AnsibleActionFail(f"release_build: no such option: {'; '.join(checked.error_messages)}")
        if checked.error_messages:
            raise AnsibleActionFail(f"release_build: {'; '.join(checked.error_messages)}")
        try:
            return {**result, **builder.work(checked.validated_parameters)}
        except builder.Refused as refused:
            return {**result, "failed": True, "msg": str(refused)}


def loaded():
    """Return the module as Python has it, able to import what would be packed with it."""
    beside = str(PLUGINS_DIR / "module_utils")
    if beside not in ansible.module_utils.__path__:
        ansible.module_utils.__path__.append(beside)
    spec = importlib.util.spec_from_file_location("release_build", PLUGINS_DIR / "modules/release_build.py")
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look their annotations up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
