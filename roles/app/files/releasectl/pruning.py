"""Remove releases and dependencies that nobody needs any more."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from releasectl import archive, companions, facts, instance, ledger, systemd, units
from releasectl.errors import Failed, Refused
from releasectl.host import Host
from releasectl.layout import rename_folder
from releasectl.output import Result, size
from releasectl.settling import forget, others_up


def prune(host: Host, keep: int, *, now: bool = True) -> Result:
    """Remove all but the newest releases that served, and the dependencies that only removed ones used.

    Never the active one, nor the canary, nor `previous`, nor what `current` names, nor one built after the
    active one that nobody has tried to activate yet: a deploy on its way may have staged it to do so next.
    Nor, this time, one whose worker still finishes a task.

    Where the disk is fuller than the settings allow, none but those stay.

    :param keep: how many releases stay, those among them.
    :param now: remove the files too. Without, they are only taken away from where anybody looks for them, and
        :mod:`releasectl.aside` removes them.
    """
    gone = _finished(host, _dispensable(host, 0 if _is_short_of_disk(host) else keep))
    freed, left = 0, []
    for release_id in gone:
        host.out.progress(f"removing {release_id}")
        try:
            _stop(host, release_id)
            freed += _remove(host.layout.release(release_id), now=now)
        except (Failed, OSError) as error:
            # The next ones are no worse for it, and their room is wanted.
            left.append(f"{release_id} is not removed: {error}")
    deps = _unused_deps(host)
    for deps_id in deps:
        host.out.progress(f"removing the dependencies {deps_id}")
        shutil.rmtree(host.layout.laid_by(deps_id), ignore_errors=True)
        freed += _remove(host.layout.deps / deps_id, now=now)
    for remark in forget(host):
        host.out.progress(remark)
    if left:
        raise Failed("; ".join(left), next_command=host.command("status"))
    words = f"removed {len(gone)} releases and {len(deps)} sets of dependencies, {size(freed)} freed"
    data = {"removed": gone, "removed_deps": deps, "freed_bytes": freed}
    return Result("pruned" if gone or deps else "nothing to prune", bool(gone or deps), words, data)


def _dispensable(host: Host, keep: int) -> list[str]:
    layout = host.layout
    staged, active = layout.staged(), layout.active()
    if active is None:
        # Then nothing tells which one matters.
        return []
    needed = {active, layout.canary(), layout.linked(layout.current), layout.linked(layout.previous)}
    history = ledger.read(layout.ledger)
    tried, served = ledger.tried(history), ledger.served(history)
    needed |= {release_id for release_id in staged if release_id > active and release_id not in tried}
    others = [release_id for release_id in reversed(staged) if release_id not in needed]
    # What failed, or was gone back from, goes first: after a bad day those are the newest, and no way back
    # leads to them.
    others.sort(key=lambda release_id: release_id not in served)
    room = max(0, keep - len(needed & set(staged)))
    return sorted(others[room:])


def _is_short_of_disk(host: Host) -> bool:
    free, _ = facts.room(host.layout.root)
    short = free < host.settings.keep_free_mb * 1024 * 1024
    if short:
        host.out.progress(
            f"{size(free)} free, below {host.settings.keep_free_mb:g} MiB: keeping no spare release"
        )
    return short


def _finished(host: Host, releases: list[str]) -> list[str]:
    """Return those of the releases that no companion runs from; the others are told to finish, if need be."""
    up = [one for one in companions.found(host) if one.release_id in releases and not one.state.down]
    for one in up:
        host.out.progress(f"keeping {one.release_id}: {one.unit} still runs")
        if not one.leaving:
            systemd.stop_soon(one.unit)
    running = {one.release_id for one in up}
    return [release_id for release_id in releases if release_id not in running]


def _stop(host: Host, release_id: str) -> None:
    """Stop what may still run of a release and take it out of the boot.

    :raises Failed: when it cannot be stopped: removing files under a running process breaks it.
    """
    app = host.settings.app
    enabled = systemd.enabled(units.pair(app, release_id) + units.companions(app, release_id))
    if enabled:
        systemd.disable(enabled)
    if release_id in others_up(host, None) and (remarks := instance.retire(host, release_id)):
        raise Failed("; ".join(remarks))


def _unused_deps(host: Host) -> list[str]:
    used = set()
    for release_id in host.layout.staged():
        try:
            used.add(archive.manifest_of(host.layout.release(release_id)).deps_id)
        except (OSError, Refused) as error:
            # A release that does not say what it stands on may stand on any of them. (Its files would
            # live on, being links of its own, but the next release could not be staged code-only.)
            host.out.progress(f"keeping all dependencies: {error}")
            return []
    return [deps_id for deps_id in host.layout.staged_deps() if deps_id not in used]


def _remove(folder: Path, *, now: bool) -> int:
    """Remove a folder, hiding it first so that a half removed one is never taken for whole.

    :return: the bytes that became free, which are those of files that have no other link.
    """
    freed = sum(_freed(file.lstat()) for file in archive.files_below(folder)) if now else 0
    aside = folder.with_name(f".{folder.name}.removed")
    if not rename_folder(folder, aside):
        shutil.rmtree(folder)
    if now:
        shutil.rmtree(aside, ignore_errors=True)
    return freed


def _freed(status: os.stat_result) -> int:
    return status.st_blocks * 512 if status.st_nlink == 1 else 0
