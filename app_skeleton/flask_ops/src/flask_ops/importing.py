"""Act on a library when the app imports it, and never import it for that."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Watcher(MetaPathFinder):
    def __init__(self) -> None:
        self.waiting: dict[str, Callable[[], object]] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        # Taken out before the others are asked: they are asked through this finder again.
        then = self.waiting.pop(fullname, None)
        spec = importlib.util.find_spec(fullname) if then else None
        if spec is None or spec.loader is None or then is None:
            return None
        execute = spec.loader.exec_module

        def execute_then(module: ModuleType) -> None:
            execute(module)
            then()

        # On the one loader of this module: a loader of our own would hide its source and its resources.
        spec.loader.exec_module = execute_then  # type: ignore[method-assign]
        return spec


_watcher = _Watcher()


def when_imported(name: str, then: Callable[[], object]) -> None:
    """Call a function once a module has been imported; at once if it has been already.

    :param name: the module's full name. One that is not installed is never waited for in vain: nothing
        happens.
    :param then: what to do. It runs inside the import, so what it raises the importer sees. A second function
        for the same module takes the place of the first.
    """
    if name in sys.modules:
        then()
        return
    _watcher.waiting[name] = then
    if _watcher not in sys.meta_path:
        sys.meta_path.insert(0, _watcher)
