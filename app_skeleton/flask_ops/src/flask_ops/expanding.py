"""Keep Alembic from what the releases that are still about could not live with.

A revision whose file says ``contract = True`` takes away what the release before it needs. While a release is
brought in, an upgrade stops before the first such revision; ``releasectl migrate --contract`` applies it once
no release that needs the old schema can come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .importing import when_imported

if TYPE_CHECKING:
    from alembic.script import Script, ScriptDirectory


class BehindContract(Exception):
    """A revision that the release needs stands on one that may not be applied yet."""


def contracts(script: Script) -> bool:
    """Return whether a revision takes away what the release before needs."""
    return getattr(script.module, "contract", False) is True


def without_contracts(scripts: ScriptDirectory, steps: Iterable[Any]) -> tuple[list[Any], list[str]]:
    """Return those steps of an upgrade that only expand, and the revisions that are left out.

    :param scripts: the folder that the steps come from.
    :param steps: in the order they are applied in. What is no step up to a revision is kept as it is.
    :raises BehindContract: if one that expands stands on one that contracts.
    """
    kept, left_out = [], []
    for step in steps:
        script = getattr(step, "revision", None)
        if not getattr(step, "is_upgrade", False) or script is None or not hasattr(script, "module"):
            kept.append(step)
        elif contracts(script):
            left_out.append(script.revision)
        elif behind := _below(scripts, script).intersection(left_out):
            raise BehindContract(
                f"{script.revision} stands on {', '.join(sorted(behind))}, which contracts and is not "
                "applied. Apply it with `releasectl migrate --contract` on a release that has it; then deploy"
                " this one"
            )
        else:
            kept.append(step)
    return kept, left_out


def _below(scripts: ScriptDirectory, script: Script) -> set[str]:
    """Return the revisions that one stands on directly."""
    names = [name for given in (script.down_revision, script.dependencies) for name in _names(given)]
    return {found.revision for found in scripts.get_revisions(tuple(names)) if found is not None}


def _names(given: str | Iterable[str] | None) -> list[str]:
    return [given] if isinstance(given, str) else list(given or ())


def hold_back(tell: Callable[[list[str]], object]) -> None:
    """Have every upgrade in this process leave out what contracts, once Alembic is imported.

    Alembic asks the ``fn`` of its ``EnvironmentContext`` for the steps, whatever the command line in front of
    it. It gives that function what the database says, so this is right for every database and every state.

    :param tell: called with the revisions that are left out, if there are any.
    """
    when_imported("alembic.runtime.environment", lambda: _wrap(tell))


def _wrap(tell: Callable[[list[str]], object]) -> None:
    from alembic.runtime.environment import EnvironmentContext

    make = EnvironmentContext.__init__

    def make_held_back(self: Any, config: Any, script: ScriptDirectory, **options: Any) -> None:
        steps_of = options.get("fn")

        def steps(revision: Any, context: Any) -> list[Any]:
            kept, left_out = without_contracts(script, steps_of(revision, context))
            if left_out:
                tell(left_out)
            return kept

        make(self, config, script, **({**options, "fn": steps} if steps_of else options))

    EnvironmentContext.__init__ = make_held_back  # type: ignore[method-assign]
