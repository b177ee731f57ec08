"""What is left to do once a release serves, and nobody need wait for: systemd does it at the lowest priority.

None of it is ever needed. A run that finds it undone does it itself, or without.
"""

from __future__ import annotations

import shlex

from releasectl import archive, systemd
from releasectl.errors import Refused
from releasectl.host import Host

# Of the links' targets nothing is copied, and a symlink stays one.
LINK_TREE = ("cp", "--archive", "--link", "--no-target-directory")


def leave(host: Host) -> None:
    """Have systemd forget units that were disabled, remove what was pruned, and link the next environment."""
    lines = ["systemctl daemon-reload", *_removals(host), *_next_environment(host)]
    systemd.run_aside(f"{host.settings.app}-aside", ["sh", "-c", "\n".join(lines)])


def _removals(host: Host) -> list[str]:
    folders = host.layout.removed()
    return [f"rm -rf {shlex.join(map(str, folders))}"] if folders else []


def _next_environment(host: Host) -> list[str]:
    """Return what links the dependencies the active release stands on once more.

    Thousands of links are most of what staging a change of code takes.
    """
    active = host.layout.active()
    if active is None or active not in host.layout.staged():
        return []
    try:
        deps_id = archive.manifest_of(host.layout.release(active)).deps_id
    except (OSError, Refused):
        return []
    source, final = host.layout.deps / deps_id / "venv", host.layout.laid_by(deps_id)
    fresh = final.with_name(f"{final.name}.new")
    if final.exists() or not source.exists():
        return []
    # Under its final name only once it is whole.
    return [
        f"rm -rf {shlex.quote(str(fresh))}",
        f"{shlex.join([*LINK_TREE, str(source), str(fresh)])} &&",
        f"mv --no-target-directory {shlex.join([str(fresh), str(final)])}",
    ]
