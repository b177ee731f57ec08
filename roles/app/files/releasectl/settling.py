"""Make links, boot and the other instances follow where traffic goes; every step repeatable."""

from __future__ import annotations

import shutil
import time

from releasectl import companions, instance, ledger, systemd, units
from releasectl.errors import ReleasectlError
from releasectl.host import Host


def adopt(host: Host, active: str) -> bool:
    """Let `previous` and `current` say what `upstream.sock` does; return whether they had to move.

    A run that was killed after its switch has not written its ledger line either: do it for it.
    """
    if active not in host.layout.staged():
        return False
    moved = links(host, active)
    if moved:
        stack = ledger.served(ledger.read(host.layout.ledger))
        if not stack or stack[-1] != active:
            line = {"command": "activate", "release": active, "by": host.by, "result": "recovered"}
            ledger.append(host.layout.ledger, line)
    return moved


def previous_for(host: Host, active: str) -> str | None:
    """Return the release to go back to from this one: what served before it, if it is still staged.

    From the ledger, and where that knows nothing, from the link `current` as the last run left it.
    """
    stack = ledger.served(ledger.read(host.layout.ledger))
    left = host.layout.linked(host.layout.current)
    if left is not None and left not in stack:
        stack.append(left)
    ledger.serve(stack, active)
    staged = set(host.layout.staged())
    before = [release_id for release_id in stack[:-1] if release_id in staged]
    return before[-1] if before else None


def links(host: Host, active: str) -> bool:
    """Move `previous`, then `current`; return whether anything moved.

    In this order a run killed in between finds `current` on the old release still and does both again.
    """
    layout = host.layout
    current, previous = layout.linked(layout.current), layout.linked(layout.previous)
    sound = previous is None or (previous != active and previous in layout.staged())
    if current == active and sound:
        return False
    layout.link_release(layout.previous, previous_for(host, active))
    layout.link_release(layout.current, active)
    return True


def boot(host: Host, active: str) -> bool:
    """Have the active release started at boot and no other; return whether that was not so."""
    mine, others = boot_units(host, active)
    enabled = set(systemd.enabled(mine + others))
    missing = [unit for unit in mine if unit not in enabled]
    extra = [unit for unit in others if unit in enabled]
    # The active instance is enabled since before its switch. The others first: a power cut in between must
    # not bring up two beats.
    if extra:
        systemd.disable(extra)
    if missing:
        systemd.enable(missing)
    return bool(missing or extra)


def boot_units(host: Host, active: str | None) -> tuple[list[str], list[str]]:
    """Return the units that are to be started at boot, and those of staged releases that are not."""
    app, mine = host.settings.app, []
    if active is not None:
        mine = units.pair(app, active) + units.companions(app, active, companions.wanted(host, active))
    staged = host.layout.staged()
    if (canary := host.layout.canary()) in staged and canary != active:
        mine += units.pair(app, canary)
    known = [unit for one in staged for unit in units.pair(app, one) + units.companions(app, one)]
    return mine, [unit for unit in known if unit not in mine]


def retire_others(host: Host, active: str, keep: str | None = None) -> tuple[list[str], list[str]]:
    """Drain every other instance and have it stopped; return their releases and remarks.

    :param keep: the release whose instance goes on without traffic, for `warm_seconds`.
    """
    retired, remarks = [], []
    for other in others_up(host, active):
        if other == keep and systemd.show(host.service(other)).running:
            if host.layout.warm_until(other) <= time.time():
                host.out.progress(f"keeping {other} warm for {host.settings.warm_seconds:g} s")
                retired.append(other)
                remarks += instance.keep_warm(host, other)
            continue
        host.out.progress(f"retiring {other}")
        retired.append(other)
        remarks += instance.retire(host, other, wait=False)
    for other in host.layout.draining():
        if other != active:
            host.layout.drain_file(other).unlink(missing_ok=True)
    return retired, remarks


def cool(host: Host, *, but: str | None = None, over: bool = False) -> list[str]:
    """Have instances that were kept warm stopped; return their releases.

    :param but: the release that is about to have traffic again.
    :param over: only those whose time is over.
    """
    marked = [
        release_id for release_id in host.layout.warm() if release_id not in (but, host.layout.active())
    ]
    gone = [one for one in marked if not over or host.layout.warm_until(one) <= time.time()]
    for release_id in gone:
        host.out.progress(f"stopping {release_id}, which was kept warm")
        instance.retire(host, release_id, wait=False)
    return gone


def forget(host: Host) -> list[str]:
    """Remove what instances that are gone for good left in /run; return remarks worth telling.

    Their folders outlive them, so that an instance that is started again continues its counters. Those of
    releases that will not come back would be scraped until the next boot. `previous` may come back.
    """
    layout = host.layout
    needed = {layout.active(), layout.canary(), *map(layout.linked, (layout.current, layout.previous))}
    gone = [release_id for release_id in layout.kept_runtime() if release_id not in needed]
    try:
        for release_id in set(gone) - (_running(host) if gone else set()):
            # It does not follow links: the app may have made some in there, and this runs as root.
            shutil.rmtree(layout.runtime(release_id))
    except (ReleasectlError, OSError) as error:
        return [f"old metrics were not removed: {error}"]
    return []


def _running(host: Host) -> set[str]:
    """Return the releases that have any unit up."""
    return {*others_up(host, None), *companions.busy(host)}


def stray(host: Host, active: str | None) -> list[str]:
    """Return the releases that run without traffic, are not kept warm and not on their way out."""
    found = [one for one in others_up(host, active) if host.layout.warm_until(one) <= time.time()]
    states = systemd.states(*(host.service(release_id) for release_id in found)) if found else []
    return [name for name, state in zip(found, states, strict=True) if state.active != "deactivating"]


def others_up(host: Host, active: str | None) -> list[str]:
    """Return the releases that have a unit up or failed and do not get traffic."""
    names = systemd.matching(units.pattern(host.settings.app))
    found = {units.release_of(host.settings.app, name) for name in names}
    return sorted(release_id for release_id in found - {None, active, host.layout.canary()} if release_id)
