"""Look at everything and touch nothing: `status`, `list` and `log`, and what the status page shows of it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path

from releasectl import (
    archive,
    canary,
    clock,
    companions,
    contract,
    facts,
    ledger,
    lock,
    locking,
    maintenance,
    probe,
    schema,
    settling,
    systemd,
    units,
)
from releasectl.errors import Refused, ReleasectlError
from releasectl.host import Host
from releasectl.output import Result, size

# What asks which companions are up.
Found = Callable[[], list[companions.Companion]]


def status(host: Host) -> Result:
    """Tell what serves, whether it is well, what is there to go back to, and what does not add up."""
    layout = host.layout
    active = layout.active()
    serving = _serving(host, active)
    holder, kept = lock.holder(layout.lock), locking.held(host)
    history, heads = schema.History.of(host), serving.pop("heads", None) if serving else None
    there = _asked_once(host)
    data = {
        "active": active,
        "previous": layout.linked(layout.previous),
        "current": layout.linked(layout.current),
        "serving": serving,
        "companions": _companions(host, active, there),
        "canary": canary.state(host),
        "maintenance": maintenance.state(host),
        "host": facts.gather(host.settings.python, layout.root),
        "schema": contract.report(host, history, heads),
        "releases": releases(host, history, heads),
        "deps": layout.staged_deps(),
        "locked_by": str(holder) if holder else None,
        "deploy_lock": kept.data() if kept else None,
        "warm": {one: clock.stamp(layout.warm_until(one)) for one in layout.warm() if one != active},
        "problems": _problems(host, active, serving, there),
    }
    words = _status_words(host, data) + (f"\n  reserved  {kept}" if kept else "")
    return Result("status", False, words, data)


def list_releases(host: Host) -> Result:
    """Tell which releases are staged."""
    found = releases(host, schema.History.of(host), schema.glance(host))
    lines = [_release_line(entry) for entry in found] or ["no release is staged"]
    return Result("list", False, "\n".join(lines), {"releases": found})


def log(host: Host, count: int) -> Result:
    """Tell what was done, the newest at the end.

    :param count: how many lines.
    """
    entries = ledger.read(host.layout.ledger)[-count:]
    lines = [_log_line(entry) for entry in entries] or ["nothing was done yet"]
    return Result("log", False, "\n".join(lines), {"entries": entries})


def releases(host: Host, history: schema.History, heads: list[str] | None) -> list[dict]:
    """Return the staged releases, oldest build first.

    :param heads: what the database is at, nothing when that is not known.
    """
    layout = host.layout
    active, previous = layout.active(), layout.linked(layout.previous)
    return [
        {
            "id": release_id,
            "digest": _digest(layout.release(release_id)),
            "staged_at": _changed_at(layout.release(release_id)),
            "active": release_id == active,
            "previous": release_id == previous,
            **contract.verdict(history, release_id, heads),
        }
        for release_id in layout.staged()
    ]


def problems(host: Host) -> list[dict]:
    """Return what does not add up, each with the command that repairs it."""
    active = host.layout.active()
    return _problems(host, active, _serving(host, active), _asked_once(host))


def _serving(host: Host, active: str | None) -> dict | None:
    if active is None:
        return None
    path = host.layout.socket(active)
    try:
        held, unit = systemd.states(*units.pair(host.settings.app, active))
    except ReleasectlError as error:
        return {"unit": f"unknown: {error.cause}", "ready": None, "readyz": ""}
    if path.exists() and not os.access(path, os.W_OK):
        return {**_unit_words(unit, held), "ready": None, "readyz": "unknown: only root may ask it"}
    # Asking a socket whose service is down would start the service: a look must not.
    answer = probe.instance(path, host.settings.ops_prefix) if unit.running else None
    ready = answer is not None and answer.ready(active)
    told = {"ready": ready, "readyz": str(answer) if answer else "not asked", "heads": schema.told_by(answer)}
    return {**_unit_words(unit, held), **told}


def _asked_once(host: Host) -> Found:
    return functools.cache(lambda: companions.found(host))


def _companions(host: Host, active: str | None, there: Found) -> list[dict]:
    """Return the active release's companions, and those of others that are still up."""
    try:
        up, unknown = there(), ""
    except ReleasectlError as error:
        up, unknown = [], f"unknown: {error.cause}"
    mine = {host.companion(kind, active): kind for kind in companions.wanted(host, active)}
    words = dict.fromkeys(mine, unknown or _state_words(systemd.INACTIVE))
    words |= {one.unit: _state_words(one.state) for one in up}
    owners = {unit: (kind, active) for unit, kind in mine.items()}
    owners |= {one.unit: (one.kind, one.release_id) for one in up}
    return [
        {"kind": kind, "release": release_id, "unit": unit, "state": words[unit]}
        for unit, (kind, release_id) in owners.items()
    ]


def _state_words(state: systemd.UnitState) -> str:
    return f"{state.active} ({state.sub})"


def _unit_words(unit: systemd.UnitState, held: systemd.UnitState) -> dict:
    return {"unit": _state_words(unit), "socket": _state_words(held)}


def _problems(host: Host, active: str | None, serving: dict | None, there: Found) -> list[dict]:
    """Return what does not add up, each with the command that repairs it."""
    found = _link_problems(host, active) + _maintenance_problems(host) + _leftovers(host)
    if active is not None and serving is not None:
        found += _serving_problems(host, active, serving) + _edge_problems(host, active)
    try:
        found += _unit_problems(host, active) + _companion_problems(host, active, there())
        found += _canary_problems(host)
    except ReleasectlError as error:
        found.append(_problem(error.cause, "systemctl status"))
    return found


def _link_problems(host: Host, active: str | None) -> list[dict]:
    layout = host.layout
    current, previous = layout.linked(layout.current), layout.linked(layout.previous)
    if active is None:
        broken = layout.upstream.is_symlink() or current is not None
        repair = f"activate {current}" if current else "list"
        return [_problem("upstream.sock names no release", host.command(repair))] if broken else []
    repair = host.command(f"activate {active}")
    found = []
    if active not in layout.staged():
        found.append(_problem(f"the active release {active} is not staged", host.command("rollback")))
    if current != active:
        found.append(_problem(f"`current` names {current or 'nothing'}, traffic goes to {active}", repair))
    if previous is not None and (previous == active or previous not in layout.staged()):
        found.append(_problem(f"`previous` names {previous}, which is no release to go back to", repair))
    return found


def _serving_problems(host: Host, active: str, serving: dict) -> list[dict]:
    found = []
    if host.layout.drain_file(active).exists():
        found.append(_problem(f"{active} is active and told to drain", host.command(f"activate {active}")))
    if serving["ready"] is False:
        running = serving["unit"].startswith("active")
        repair = "restart" if running else f"activate {active}"
        found.append(_problem(f"{active} is active and not ready", host.command(repair)))
    return found


def _edge_problems(host: Host, active: str) -> list[dict]:
    """See it as the world does: an instance that is well helps nobody behind an nginx that is not."""
    edge = host.settings.edge
    if edge is None:
        return []
    answer = probe.edge(edge)
    # This host's own address may be among the canary's clients.
    if answer.status == 200 and answer.release in (active, host.layout.canary()):
        return []
    return [_problem(f"{edge.url} does not answer as {active}: {answer}", "systemctl status nginx")]


def _unit_problems(host: Host, active: str | None) -> list[dict]:
    there = active if active in host.layout.staged() else None
    mine, others = settling.boot_units(host, there)
    enabled = systemd.enabled(mine + others)
    repair = host.command(f"activate {active}") if active else host.command("list")
    found = [_problem(f"{unit} is not started at boot", repair) for unit in mine if unit not in enabled]
    found += [_problem(f"{unit} is started at boot", repair) for unit in enabled if unit not in mine]
    found += [_problem(f"{other} runs and gets no traffic", repair) for other in settling.stray(host, active)]
    return found


def _companion_problems(host: Host, active: str | None, there: list[companions.Companion]) -> list[dict]:
    repair = host.command(f"activate {active}") if active else host.command("list")
    kinds = companions.wanted(host, active)
    up = {one.unit: one.state for one in there}
    mine = {unit: up.get(unit, systemd.INACTIVE) for unit in (host.companion(kind, active) for kind in kinds)}
    found = [
        _problem(f"{unit} does not run ({state.active})", repair)
        for unit, state in mine.items()
        # After a rollback nobody waited for it.
        if not state.running and not state.coming
    ]
    if active in host.layout.held():
        found.append(_problem(f"{host.companion(units.BEAT, active)} was never told to tick", repair))
    for one in companions.foreign(host, active, there):
        found.append(_problem(f"{one.unit} is {one.state.active} and not the active release's", repair))
    if active and units.FLOWER in kinds and not host.layout.shows_flower(active):
        found.append(_problem("flower.sock does not lead to the active release's Flower", repair))
    if active and (without := companions.lacking(host, active)):
        found.append(_problem(without, "a release that has it, or app_celery: ''"))
    return found


def _maintenance_problems(host: Host) -> list[dict]:
    found = maintenance.problem(host)
    return [_problem(*found)] if found else []


def _canary_problems(host: Host) -> list[dict]:
    return [_problem(*found) for found in canary.problems(host)]


def _leftovers(host: Host) -> list[dict]:
    layout = host.layout
    folders = layout.leftovers()
    if not folders or lock.holder(layout.lock):
        return []
    return [
        _problem(f"{folder.name} is left of a run that was stopped", "the next `stage`") for folder in folders
    ]


def _problem(text: str, repair: str) -> dict:
    return {"problem": text, "repair": repair}


def _digest(folder: Path) -> str | None:
    try:
        return archive.manifest_of(folder).digest
    except (OSError, Refused):
        return None


def _changed_at(folder: Path) -> str:
    return clock.stamp(folder.stat().st_mtime)


def _status_words(host: Host, data: dict) -> str:
    told = data["host"]
    lines = [f"{host.settings.app}", f"  active    {data['active'] or 'nothing'}"]
    if data["serving"]:
        lines.append(f"  unit      {data['serving']['unit']}")
        lines.append(f"  readyz    {data['serving']['readyz']}")
    lines += [_companion_line(entry, data["active"]) for entry in data["companions"]]
    if data["canary"]:
        lines.append(f"  canary    {canary.words(data['canary'])}")
    if data["maintenance"]["on"]:
        lines.append(f"  visitors  {maintenance.words(data['maintenance'])}")
    lines.append(f"  previous  {data['previous'] or 'nothing'}")
    lines += [f"  warm      {release_id} until {until}" for release_id, until in data["warm"].items()]
    lines.append(f"  host      Python {told['python']}, {told['machine']}, glibc {told['glibc']}")
    lines.append(f"  disk      {size(told['free_bytes'])} free, {told['free_inodes']} inodes free")
    if data["schema"]:
        lines += contract.words(data["schema"], host.command("migrate --contract"))
    lines += [f"  {_release_line(entry)}" for entry in data["releases"]]
    if data["locked_by"]:
        lines.append(f"  locked    {data['locked_by']}")
    for entry in data["problems"]:
        lines.append(f"  problem   {entry['problem']}; repaired by: {entry['repair']}")
    return "\n".join(lines)


def _companion_line(entry: dict, active: str | None) -> str:
    whose = "" if entry["release"] == active else f"  of {entry['release']}"
    return f"  {entry['kind']:<9} {entry['state']}{whose}"


def _release_line(entry: dict) -> str:
    mark = "active" if entry["active"] else "previous" if entry["previous"] else ""
    could = contract.mark(entry)
    return f"{entry['id']}  staged {entry['staged_at']}  {mark}".rstrip() + (f"  {could}" if could else "")


def _log_line(entry: dict) -> str:
    words = [entry.get(name) for name in ("at", "command", "turn", "release", "result")]
    line = "  ".join(str(word) for word in words if word)
    line += "".join(f"  {name}" for name in ("contract", "despite_schema") if entry.get(name))
    line += f"  by {entry['by']}" if entry.get("by") else ""
    line += f"  after {entry['duration_seconds']} s" if entry.get("duration_seconds") is not None else ""
    if (told := entry.get("maintenance")) and told.get("on"):
        line += f"\n    {told['reason']}"
    return line + (f"\n    {entry['cause']}" if entry.get("cause") else "")
