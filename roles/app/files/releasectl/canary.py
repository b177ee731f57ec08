"""Give a share of the clients another release than the active one, and take it from them again.

Two links. `canary.sock` leads to the canary's socket, and to `upstream.sock` while there is none: whoever is
on the way to a canary that is withdrawn finds the active release. `canary` leads to a folder named by share
and release, `canary.d/25-<id>`, with an empty file for each slot of nginx's twenty that has the canary. Both
move by rename; nginx looks at every request and is never reloaded. The first tells where traffic goes.

In order, and what a kill leaves: the instance starts and is gated (a stray, stopped by the next activation);
it is enabled for boot; `canary.sock` moves (a canary of no share); `canary` moves. Back: `canary.sock` moves;
the canary is drained and stopped; `canary` goes. Each command, typed again, goes on where it was.
"""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from releasectl import instance, layout, probe, schema, settling, systemd, units
from releasectl.errors import Failed, Refused
from releasectl.host import Host
from releasectl.output import Result

STEP_PERCENT = 5
FOLDER = re.compile(rf"(\d+)-({layout.RELEASE_ID.pattern})")


def give(host: Host, release_id: str, percent: int) -> Result:
    """Send a share of the clients to a staged release, or change the share of the one that has some.

    :param percent: of the clients, in steps of five.
    :raises Refused: when the share is none, or the release serves everybody, or another one is the canary, or
        it cannot run on the database's schema.
    :raises Failed: when it does not get ready; nobody got it.
    """
    if percent % STEP_PERCENT or not 0 < percent < 100:
        raise Refused(f"--share takes {STEP_PERCENT} to 95 in steps of {STEP_PERCENT}, not {percent}")
    host.require_staged(release_id)
    active, canary = host.layout.active(), host.layout.canary()
    if active is None:
        raise Refused("no release is active", next_command=host.command(f"activate {release_id}"))
    if active == release_id:
        raise Refused(f"{release_id} serves everybody already", next_command=host.command("list"))
    if canary not in (None, release_id):
        raise Refused(f"{canary} is the canary already", next_command=host.command("canary --withdraw"))
    if canary is None:
        schema.require_runnable(host, release_id, despite=False)
        # Two releases at once is what a host and its database are sized for.
        settling.cool(host, but=release_id)
        _bring_up(host, release_id)
    elif not is_well(host, release_id):
        raise Failed(f"the canary {release_id} is not ready", next_command=host.command("canary --withdraw"))
    changed = _point(host, release_id, percent) or canary is None
    data = {"release": release_id, "share_percent": percent, "remarks": []}
    told = f"{release_id} is the canary for {percent} % of the clients"
    return Result("given" if changed else "already given", changed, told, data)


def withdraw(host: Host) -> Result:
    """Take the canary from whoever has it, drain it and stop it; what a killed run left of one too."""
    release_id = host.layout.canary() or _named(host)
    if release_id is None:
        return Result("no canary", False, "there is no canary", {"release": None, "remarks": []})
    host.out.progress(f"withdrawing {release_id}")
    _turn(host)
    remarks = [] if release_id == host.layout.active() else _stop(host, release_id)
    take_back(host)
    remarks += settling.forget(host)
    told = [f"{release_id} is withdrawn", *(f"  note: {remark}" for remark in remarks)]
    return Result("withdrawn", True, "\n".join(told), {"release": release_id, "remarks": remarks})


def make_way(host: Host, release_id: str) -> list[str]:
    """Withdraw the canary before another release is activated, or where it is not well; return remarks."""
    canary = host.layout.canary()
    if canary is None and _named(host) is None:
        return []
    if canary == release_id and is_well(host, release_id):
        return []
    return list(withdraw(host).data["remarks"])


def take_back(host: Host) -> None:
    """Let no client be sent to the canary any more. It runs on: it may be everybody's now."""
    paths = host.layout
    if paths.canary() is not None:
        _turn(host)
    if paths.canary_share.is_symlink():
        paths.canary_share.unlink()
        layout.sync_folder(paths.root)
        shutil.rmtree(paths.canary_shares, ignore_errors=True)


def is_well(host: Host, release_id: str) -> bool:
    """Whether the canary runs, is not told to drain, and is ready."""
    if not systemd.show(host.service(release_id)).running or host.layout.drain_file(release_id).exists():
        return False
    return probe.instance(host.layout.socket(release_id), host.settings.ops_prefix).ready(release_id)


def state(host: Host) -> dict | None:
    """Return the canary and its share, or nothing where there is none."""
    release_id = host.layout.canary()
    if release_id is None:
        return None
    found = _share(host)
    return {"release": release_id, "share_percent": found[0] if found and found[1] == release_id else 0}


def words(told: dict) -> str:
    """Return what `state` returned as a person reads it."""
    return f"{told['release']}, {told['share_percent']} % of the clients"


def problems(host: Host) -> list[tuple[str, str]]:
    """Return what does not add up, each with its repair."""
    told, named = state(host), _named(host)
    if told is None and named is None:
        return []
    repair = host.command("canary --withdraw")
    if told is None:
        return [(f"the canary {named} is half withdrawn", repair)]
    found = []
    if not told["share_percent"]:
        found.append((f"the canary {told['release']} has no share of the clients", repair))
    if not systemd.show(host.service(told["release"])).running:
        found.append((f"the canary {told['release']} does not run", repair))
    return found


def _share(host: Host) -> tuple[int, str] | None:
    """Return share and release that the folder's name tells."""
    try:
        found = FOLDER.fullmatch(host.layout.canary_share.readlink().name)
    except OSError:
        return None
    return (int(found[1]), found[2]) if found else None


def _named(host: Host) -> str | None:
    found = _share(host)
    return found[1] if found else None


def _turn(host: Host) -> None:
    """Send whoever has the canary to the active release, all at once."""
    layout.point(host.layout.canary_socket, Path(host.layout.upstream.name))


def _bring_up(host: Host, release_id: str) -> None:
    """Start the canary and have it started at boot, or leave nothing of it."""
    began = time.monotonic()
    try:
        instance.bring_up(host, release_id)
        # Of a canary just withdrawn nginx may keep connections to the active release, idle ones for so long:
        # used again and again, they would keep their clients from this canary.
        time.sleep(max(0.0, host.settings.idle_close_seconds - (time.monotonic() - began)))
        systemd.enable(units.pair(host.settings.app, release_id))
        layout.point(host.layout.canary_socket, host.layout.socket(release_id))
    except BaseException:
        host.signals.hold()
        if host.layout.canary() != release_id:
            host.out.progress(f"stopping {release_id}")
            _disable(host, release_id)
            instance.take_down(host, release_id)
            settling.forget(host)
        raise


def _point(host: Host, release_id: str, percent: int) -> bool:
    """Let the share's slots have the canary, in one rename; return whether that was not so."""
    if _share(host) == (percent, release_id):
        return False
    paths = host.layout
    folder = paths.canary_shares / f"{percent}-{release_id}"
    folder.mkdir(parents=True, exist_ok=True)
    for slot in range(1, percent // STEP_PERCENT + 1):
        (folder / f"{slot:02}").touch()
    layout.point(folder / "release", Path("../../releases") / release_id)
    layout.sync_folder(paths.canary_shares)
    layout.point(paths.canary_share, folder.relative_to(paths.root))
    for other in paths.canary_shares.iterdir():
        if other != folder:
            shutil.rmtree(other, ignore_errors=True)
    return True


def _stop(host: Host, release_id: str) -> list[str]:
    _disable(host, release_id)
    return instance.retire(host, release_id)


def _disable(host: Host, release_id: str) -> None:
    names = systemd.enabled(units.pair(host.settings.app, release_id))
    if names:
        systemd.disable(names)
