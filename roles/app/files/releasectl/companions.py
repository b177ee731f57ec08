"""Celery's worker, beat and Flower of a release: they follow where traffic goes.

Workers of two releases may run side by side, and one that is left finishes its tasks while nobody waits.
Two beats never tick at once: what is due would be sent twice. The next one may import beside the one that
ticks, as long as its hold file keeps it from the schedule.
"""

from __future__ import annotations

import dataclasses

from releasectl import starting, systemd, units
from releasectl.errors import Failed
from releasectl.host import Host
from releasectl.starting import Start
from releasectl.systemd import UnitState

# What a release must have installed for each, and APP_CELERY in its environment: one from before the app had
# Celery can be gone back to.
PACKAGES = {units.WORKER: "celery", units.BEAT: "celery", units.FLOWER: "flower"}
MODULES = {kind: f"{package}/__init__.py" for kind, package in PACKAGES.items()}
# What makes a beat heed its hold file: one from before it would tick at once.
HOLDS = "flask_ops/hold.py"


@dataclasses.dataclass(frozen=True)
class Companion:
    """One unit that is up, on its way or failed."""

    kind: str
    release_id: str
    unit: str
    state: UnitState

    @property
    def leaving(self) -> bool:
        """Whether it was told to stop, and finishes what it has begun."""
        return self.state.active == "deactivating"


def wanted(host: Host, release_id: str | None) -> list[str]:
    """Return the kinds that belong to a release while it is active; none where there is no such release."""
    if release_id not in host.layout.staged() or not host.layout.variable(release_id, "APP_CELERY"):
        return []
    return [kind for kind in host.settings.companions if host.layout.installed(release_id, MODULES[kind])]


def lacking(host: Host, release_id: str) -> str:
    """Say which companions the settings ask for that a release cannot have; empty when there is none."""
    missing = [kind for kind in host.settings.companions if kind not in wanted(host, release_id)]
    if not missing or release_id not in host.layout.staged():
        return ""
    packages = sorted({PACKAGES[kind] for kind in missing})
    why = f"has no {' and no '.join(packages)} installed"
    if not host.layout.variable(release_id, "APP_CELERY"):
        why = "was built without app_celery"
    return f"{release_id} {why}, so no {' and no '.join(missing)} runs"


def found(host: Host) -> list[Companion]:
    """Return every companion of any release that is up, on its way or failed."""
    app = host.settings.app
    states = systemd.matching(*units.companion_patterns(app))
    owners = {name: owner for name in states if (owner := units.companion_of(app, name)) is not None}
    return [Companion(kind, owner, name, states[name]) for name, (kind, owner) in owners.items()]


def foreign(host: Host, active: str | None, there: list[Companion]) -> list[Companion]:
    """Return the companions that are up and should not be: another release's, or no longer asked for.

    :param there: what :func:`found` returned.
    """
    mine = set(units.companions(host.settings.app, active, wanted(host, active))) if active else set()
    return [one for one in there if one.unit not in mine and not one.leaving]


def busy(host: Host) -> set[str]:
    """Return the releases whose files a companion still runs from."""
    return {one.release_id for one in found(host) if not one.state.down}


def begin(host: Host, release_id: str) -> tuple[list[Start], list[Start]]:
    """Ask for the starts of a release's worker and its beat; return each, nothing where none is needed.

    The beat is held until :func:`bring_up`: it gets ready no earlier. One that is up, or knows nothing of
    being held, is not begun.

    :raises Failed: when systemd does not answer.
    """
    kinds = [kind for kind in wanted(host, release_id) if kind != units.FLOWER]
    if units.BEAT in kinds and not host.layout.installed(release_id, HOLDS):
        kinds.remove(units.BEAT)
    names = units.companions(host.settings.app, release_id, kinds)
    begun: dict[str, list[Start]] = {units.WORKER: [], units.BEAT: []}
    for kind, state in zip(kinds, systemd.states(*names) if names else [], strict=True):
        if kind == units.BEAT:
            if not state.down:
                continue
            host.layout.hold_file(release_id).touch()
        begun[kind] = _begin(host, kind, release_id, state)
    return begun[units.WORKER], begun[units.BEAT]


def bring_up(host: Host, release_id: str) -> bool:
    """Get a release's worker to consume and its beat to tick; return whether something had to be done.

    The other releases' workers go on; their beats are stopped before this one's is let go. Not before its
    worker consumes: if it fails, no clock was touched, and what is due goes to a worker that knows it.

    :raises Failed: with the unit's last lines, when one does not become ready.
    """
    kinds, there, changed = wanted(host, release_id), found(host), False
    if units.WORKER in kinds and _start(host, units.WORKER, release_id, there):
        # That took its time, and a beat may have come up meanwhile.
        changed, there = True, found(host)
    if units.BEAT in kinds:
        changed |= _stop_beats(host, there, but=release_id)
        _let_go(host)
        changed |= _start(host, units.BEAT, release_id, there)
    return changed


def _let_go(host: Host) -> None:
    for release_id in host.layout.held():
        host.layout.hold_file(release_id).unlink(missing_ok=True)


def restart(host: Host, release_id: str) -> None:
    """Start a release's companions afresh, with the settings as they are now; running tasks finish first.

    All at once: each takes seconds to leave and seconds to import. Its own beat has stopped before it starts
    again, as systemd restarts any unit.

    :raises Failed: when one does not become ready again.
    """
    kinds = wanted(host, release_id)
    if units.BEAT in kinds:
        _stop_beats(host, found(host), but=release_id)
        _let_go(host)
    starting.wait([_restart(host, kind, release_id) for kind in kinds])


def follow(host: Host, active: str) -> tuple[bool, list[str]]:
    """Have no companions but the active release's; return whether that was not so, and remarks.

    Nobody waits for a worker to finish its tasks: systemd sees it through, with the unit's own time limit.
    Nor for Flower, which nobody's work depends on: `status` tells of one that does not come up.
    """
    there = found(host)
    extra = foreign(host, active, there)
    names = [one.unit for one in extra]
    failed = [one.unit for one in extra if one.state.active == "failed"]
    if names:
        host.out.progress(f"stopping {', '.join(names)}")
        systemd.stop_soon(*names)
    if failed:
        systemd.reset_failed(*failed)
    shown, remarks = _show_flower(host, active, there)
    without = lacking(host, active)
    return bool(extra) or shown, remarks + ([without] if without else [])


def withdraw(host: Host, release_id: str) -> None:
    """Stop the companions of a release that failed.

    :raises Failed: when its beat cannot be stopped.
    """
    systemd.let_orders_go()
    # By name: one whose start was asked for a moment ago is in no list of what is up.
    names = units.companions(host.settings.app, release_id, (units.WORKER, units.FLOWER))
    for name, state in zip(names, systemd.states(*names), strict=True):
        if state.running or state.active == "deactivating":
            # A worker may have taken tasks by now; one that has yet to leave may be about to start again.
            systemd.stop_soon(name)
        else:
            systemd.stop(name, host.settings.stop_timeout_seconds)
            systemd.reset_failed(name)
    _stop_beats(host, found(host), only=release_id)
    host.layout.hold_file(release_id).unlink(missing_ok=True)


def restore(host: Host, release_id: str) -> None:
    """Start again what was stopped of a release that traffic went back to.

    :raises Failed: when systemd refuses, or another release's beat still runs.
    """
    kinds = wanted(host, release_id)
    if units.BEAT in kinds:
        _stop_beats(host, found(host), but=release_id)
        _let_go(host)
    names = units.companions(host.settings.app, release_id, kinds)
    states = systemd.states(*names) if names else []
    idle = [name for name, state in zip(names, states, strict=True) if not state.running]
    if idle:
        systemd.start_soon(*idle)
    host.layout.show_flower(release_id if units.FLOWER in kinds else None)


def _start(host: Host, kind: str, release_id: str, there: list[Companion]) -> bool:
    """Start a companion and wait until systemd says READY; return whether it had to be started.

    :param there: what :func:`found` returned.
    :raises Failed: with the unit's last lines.
    """
    starts = _begin(host, kind, release_id, _state(host, kind, release_id, there))
    starting.wait(starts)
    return bool(starts)


def _state(host: Host, kind: str, release_id: str, there: list[Companion]) -> UnitState:
    """Return what systemd says of a companion."""
    unit = host.companion(kind, release_id)
    # One that is down still has the invocation of its last run, which the next one's is told from.
    return next((one.state for one in there if one.unit == unit), None) or systemd.show(unit)


def _begin(
    host: Host, kind: str, release_id: str, state: UnitState, *, nobody_waits: bool = False
) -> list[Start]:
    """Ask for a companion's start; return what is to be waited for, nothing when it is up.

    :param state: what systemd says of it.
    :param nobody_waits: for its outcome, that is: whether systemd refuses it is seen at once.
    :raises Failed: when systemd does not answer, or refuses what nobody waits for.
    """
    unit = host.companion(kind, release_id)
    if state.running:
        return []
    # Left a moment ago and come back to: systemd starts it once its last tasks are done.
    leaving_seconds = _stop_seconds(host, kind) if state.active == "deactivating" else 0
    limit = host.settings.start_timeout_seconds
    start = Start(unit, starting.before_start(state), limit, leaving_seconds)
    if not state.coming or leaving_seconds:
        if state.active == "failed":
            systemd.reset_failed(unit)
        host.out.progress(f"starting {unit}, {limit + leaving_seconds:g} s at most")
        if nobody_waits:
            systemd.start_soon(unit)
        else:
            start.ask()
    return [start]


def _restart(host: Host, kind: str, release_id: str) -> Start:
    """Ask for a companion to start afresh, whatever it does now; return what is to be waited for.

    :raises Failed: when systemd refuses.
    """
    unit = host.companion(kind, release_id)
    before = systemd.show(unit).invocation
    start = Start(unit, before, host.settings.start_timeout_seconds, _stop_seconds(host, kind))
    systemd.reset_failed(unit)
    host.out.progress(f"restarting {unit}")
    systemd.restart_soon(unit)
    return start


def _stop_beats(
    host: Host, there: list[Companion], *, but: str | None = None, only: str | None = None
) -> bool:
    """Stop beats and see them down; return whether there were any.

    :param there: what :func:`found` returned.
    :param but: the release whose beat may go on.
    :param only: the only release whose beat is stopped.
    :raises Failed: when one does not stop.
    """
    beats = [one for one in there if one.kind == units.BEAT and one.release_id != but]
    beats = [one for one in beats if only in (None, one.release_id)]
    for one in beats:
        host.out.progress(f"stopping {one.unit}")
        systemd.stop(one.unit, host.settings.stop_timeout_seconds)
        state = systemd.show(one.unit)
        if state.active == "failed":
            systemd.reset_failed(one.unit)
        if not state.down:
            raise Failed(
                f"{one.unit} does not stop, and two beats must not tick",
                next_command=f"systemctl status {one.unit}",
            )
    return bool(beats)


def _show_flower(host: Host, active: str, there: list[Companion]) -> tuple[bool, list[str]]:
    """Ask for the active release's Flower, and link it; return whether that was not so, and remarks."""
    if units.FLOWER not in wanted(host, active):
        return host.layout.show_flower(None), []
    moved = host.layout.show_flower(active)
    try:
        state = _state(host, units.FLOWER, active, there)
        return bool(_begin(host, units.FLOWER, active, state, nobody_waits=True)) or moved, []
    except Failed as error:
        return True, [f"{error.cause}: {error.next_command}"]


def _stop_seconds(host: Host, kind: str) -> float:
    settings = host.settings
    return settings.worker_stop_timeout_seconds if kind == units.WORKER else settings.stop_timeout_seconds
