"""Make any Flask app operable.

Nothing is imported here: gunicorn imports this package on its way to ``flask_ops.gunicorn_conf``, whose first
statement must patch the standard library before anything else binds a socket or a lock.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .extension import init_app as init_app
    from .health import Check as Check

__all__ = ["Check", "init_app"]

_HOMES = {"Check": "health", "init_app": "extension"}


def __getattr__(name: str) -> object:
    """Import a public name at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names although they are not imported yet."""
    return sorted([*globals(), *_HOMES])
