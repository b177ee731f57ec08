"""When what only older releases need may be taken away from the database, and how `status` tells of it."""

from __future__ import annotations

from releasectl import companions, settling
from releasectl.errors import Refused, ReleasectlError
from releasectl.host import Host
from releasectl.schema import History


def pending(history: History, release_id: str, heads: list[str] | None) -> list[str]:
    """Return the revisions of a release that contract and are not applied; all of them when nobody knows."""
    has = history.carried.get(release_id)
    return has.pending(history.applied(heads) or (), contract=True) if has else []


def obstacle(host: Host, history: History, names: list[str]) -> str:
    """Return why revisions that contract may not be applied yet, and what to do; empty if they may."""
    layout = host.layout
    roles = {
        "active": layout.active(),
        "current": layout.linked(layout.current),
        "previous": layout.linked(layout.previous),
    }
    keeping = {release_id: role for role, release_id in reversed(roles.items()) if release_id}
    for release_id in sorted(_running(host)):
        keeping.setdefault(release_id, "still running")
    for release_id, role in keeping.items():
        lacking = _lacking(history, release_id, names)
        if lacking:
            return f"{release_id} is {role} and does not carry {', '.join(lacking)}; {_remedy(role)}"
    return ""


def _running(host: Host) -> set[str]:
    return {*settling.others_up(host, None), *companions.busy(host)}


def _lacking(history: History, release_id: str, names: list[str]) -> list[str]:
    """Return those of the revisions that a release does not carry, as far as is known."""
    has = history.carried.get(release_id)
    return [name for name in names if has is None or name not in has.revisions]


def _remedy(role: str) -> str:
    if role == "still running":
        return "wait until it has ended"
    if role == "previous":
        return "it may come back until another release has been deployed after the active one"
    return "deploy a release that does"


def require_allowed(host: Host, history: History, release_id: str, names: list[str]) -> None:
    """See that no release that needs what they take away could come back.

    :raises Refused: naming the release that could, and what to do about it.
    """
    why = obstacle(host, history, names)
    if why:
        raise Refused(
            f"{', '.join(names)} of {release_id} may not be applied yet: {why}",
            next_command=host.command("status"),
        )


def report(host: Host, history: History, heads: list[str] | None) -> dict | None:
    """Return what `status` tells of the schema; nothing where no release here has one that is known."""
    active = host.layout.active()
    if not history.revisions:
        return None
    has = history.carried.get(active) if active else None
    applied = history.applied(heads)
    late = pending(history, active, heads) if active else []
    return {
        "heads": heads,
        "known": applied is not None,
        "pending": has.pending(applied, contract=False) if has and applied is not None else [],
        "contract_pending": late,
        "contract_refused": _refusal(host, history, late) if late else "",
    }


def _refusal(host: Host, history: History, late: list[str]) -> str:
    try:
        return obstacle(host, history, late)
    except ReleasectlError as error:
        return error.cause


def verdict(history: History, release_id: str, heads: list[str] | None) -> dict:
    """Return whether a release could come back, as `list` and `status` tell it.

    `returns` is true, false, or null when it depends on what nobody tells now.
    """
    why = history.obstacle(release_id, heads)
    return {"returns": None if why and heads is None else not why, "why": why}


def words(told: dict, command: str) -> list[str]:
    """Return the lines of `status` about the schema.

    :param command: what applies revisions that contract.
    """
    heads = ", ".join(told["heads"]) or "nothing applied" if told["heads"] is not None else "nobody tells"
    lines = [f"  schema    {heads}"]
    if told["pending"]:
        lines.append(f"  schema    not applied: {', '.join(told['pending'])}")
    if told["contract_pending"]:
        late = ", ".join(told["contract_pending"])
        unless = "" if told["known"] else " unless it is applied already"
        how = f"not yet: {told['contract_refused']}" if told["contract_refused"] else f"apply: {command}"
        lines.append(f"  contract  {late} is pending{unless}; {how}")
    return lines


def mark(entry: dict) -> str:
    """Return what a release's line says of whether it could come back."""
    if entry["active"] or entry.get("returns") is True:
        return ""
    return f"cannot come back: {entry['why']}" if entry.get("returns") is False else _maybe(entry)


def _maybe(entry: dict) -> str:
    return f"may not come back: {entry['why']}" if entry.get("why") else ""
