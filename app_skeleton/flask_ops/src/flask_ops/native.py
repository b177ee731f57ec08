"""Reach what gevent has replaced, for the few places that must not yield to it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any


def patched() -> bool:
    """Return whether this process runs on gevent."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("socket")


def original(module: str, name: str) -> Any:
    """Return a function of the standard library as it was before gevent replaced it.

    :param module: its module.
    :param name: its name.
    """
    if patched():
        from gevent import monkey

        return monkey.get_original(module, name)
    return getattr(import_module(module), name)


def beside_the_loop(call: Callable[..., Any], *arguments: Any) -> Any:
    """Call what blocks a thread in C, such as a write to a disk, in one of its own; return what it returns.

    Under gevent all requests of a worker share one thread, and would wait with it.

    :param call: what to call.
    :param arguments: what with.
    """
    if not patched():
        return call(*arguments)
    from gevent import get_hub

    return get_hub().threadpool.apply(call, arguments)
