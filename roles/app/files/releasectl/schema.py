"""Know which revisions of the schema releases carry, which are applied, and who can live with that.

`release.json` lists the Alembic revisions a release carries, each with what it stands on and whether it
contracts: takes away what the release before needs. Everything else expands. A release can run on a database
if every applied revision that it does not carry expands. What is not known counts as the worst that could be.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Iterable

from releasectl import archive, ledger, probe, running, systemd, units
from releasectl.errors import Refused, ReleasectlError
from releasectl.host import Host

# The database itself is given 2 s to connect and 2 s to answer.
ASK_SECONDS = 15
DESPITE = "--despite-schema"


@dataclasses.dataclass(frozen=True)
class Revision:
    """One migration.

    :param down: the revisions it stands on.
    :param contract: whether it takes away what the release before needs.
    """

    name: str
    down: tuple[str, ...]
    contract: bool


@dataclasses.dataclass(frozen=True)
class Carried:
    """The revisions of one release, by name, the oldest first."""

    heads: tuple[str, ...] = ()
    revisions: dict[str, Revision] = dataclasses.field(default_factory=dict)

    @property
    def contracts(self) -> list[str]:
        """Those that contract."""
        return self.pending((), contract=True)

    def pending(self, applied: Iterable[str], *, contract: bool) -> list[str]:
        """Return what is not applied: of those that contract, or of those that do not."""
        there = set(applied)
        return [
            one.name for one in self.revisions.values() if one.contract == contract and one.name not in there
        ]


class History:
    """What the releases on this host know of the schema, all of them together.

    :ivar carried: by release; None for one whose revisions are not known, or that has none.
    :ivar revisions: every one that any of them carries. It contracts if any release says so.
    """

    def __init__(self, carried: dict[str, Carried | None]) -> None:
        """Join what releases carry."""
        self.carried = carried
        self.revisions: dict[str, Revision] = {}
        for one in (one for found in carried.values() if found for one in found.revisions.values()):
            known = self.revisions.get(one.name, one)
            self.revisions[one.name] = dataclasses.replace(one, contract=one.contract or known.contract)

    @classmethod
    def of(cls, host: Host) -> History:
        """Read what every staged release carries."""
        return cls({release_id: carried(host, release_id) for release_id in host.layout.staged()})

    def applied(self, heads: Iterable[str] | None) -> set[str] | None:
        """Return the revisions a database has that is at these; nothing when one of them is not known."""
        if heads is None or not set(heads) <= set(self.revisions):
            return None
        found: set[str] = set()
        waiting = list(heads)
        while waiting:
            name = waiting.pop()
            if name not in found and name in self.revisions:
                found.add(name)
                waiting += self.revisions[name].down
        return found

    def lacks(self, release_id: str, applied: Iterable[str]) -> list[str]:
        """Return the revisions among these that contract and that a release does not carry."""
        has = self.carried.get(release_id)
        if has is None:
            return []
        found = (self.revisions[name] for name in applied if name in self.revisions)
        return sorted(one.name for one in found if one.contract and one.name not in has.revisions)

    def alike(self, release_id: str, other: str | None) -> bool:
        """Whether two releases carry the same revisions: one runs wherever the other does."""
        has, its = self.carried.get(release_id), self.carried.get(other or "")
        return has is not None and its is not None and has.revisions.keys() == its.revisions.keys()

    def obstacle(self, release_id: str, heads: list[str] | None) -> str:
        """Return why a release must not run on a database that is at these revisions; empty if it may.

        :param heads: nothing when they are not known: then all that any release carries may be applied.
        """
        if self.carried.get(release_id) is None or not self.revisions:
            return ""
        strange = sorted(set(heads or ()) - set(self.revisions))
        if strange:
            return f"the database is at {', '.join(strange)}, which no release on this host carries"
        applied = self.applied(heads)
        missing = self.lacks(release_id, self.revisions if applied is None else applied)
        if not missing:
            return ""
        words = f"{', '.join(missing)}, which it does not carry and which took away what it needs"
        if applied is None:
            return f"nobody tells what the database is at, and it may have {words}"
        return f"the database has {words}"


def carried(host: Host, release_id: str) -> Carried | None:
    """Return what a release carries; nothing where it says that it is not known, or does not say it well.

    A release that was built before releases said it carries nothing that is known: it may come back until
    something is taken away.
    """
    try:
        told = json.loads((host.layout.release(release_id) / archive.MANIFEST).read_bytes())
        return parse(told.get("migrations", {"heads": [], "revisions": []}))
    except (OSError, ValueError, AttributeError):
        return None


def parse(told: dict | None) -> Carried | None:
    """Return what `migrations` of a `release.json` says; nothing where it is null or not well formed."""
    if told is None:
        return None
    try:
        found = [
            Revision(str(one["revision"]), tuple(map(str, one["down"])), one["contract"] is True)
            for one in told["revisions"]
        ]
        return Carried(tuple(map(str, told["heads"])), {one.name: one for one in found})
    except (KeyError, TypeError):
        return None


def told_by(answer: probe.Answer | None) -> list[str] | None:
    """Return the revisions the database is at by an instance's readiness; nothing if it does not say."""
    checks = answer.body.get("checks") if answer is not None else None
    found = [one["found"] for one in checks if _has_heads(one)] if isinstance(checks, list) else []
    heads = [sorted(map(str, one["heads"])) for one in found]
    # Of two databases with migrations each nobody knows which is meant.
    return heads[0] if len(heads) == 1 else None


def _has_heads(check: object) -> bool:
    found = check.get("found") if isinstance(check, dict) else None
    return isinstance(found, dict) and isinstance(found.get("heads"), list)


def glance(host: Host) -> list[str] | None:
    """Return the revisions the database is at as the active instance says it; nothing when it does not.

    It costs a few milliseconds and may be a second old.
    """
    active = host.layout.active()
    if active is None or not os.access(host.layout.socket(active), os.W_OK):
        return None
    try:
        # Asking a socket whose service is down would start the service.
        up = systemd.show(host.service(active)).running
    except ReleasectlError:
        return None
    return told_by(probe.instance(host.layout.socket(active), host.settings.ops_prefix)) if up else None


def ask(host: Host) -> list[str] | None:
    """Return the revisions the database says it is at, now; nothing when that cannot be found out.

    In the frame of the newest release that can: the app is not imported for it, and no instance is needed.
    """
    history = History.of(host)
    able = [release_id for release_id, has in history.carried.items() if has and has.revisions]
    if not able:
        return None
    words = ["python", "-m", "flask_ops.schema"]
    command = running.command_line(host, able[-1], words, on_terminal=False)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            check=False,
        )
        heads = json.loads(done.stdout.strip().splitlines()[-1])["heads"]
    except (OSError, subprocess.SubprocessError, ValueError, IndexError, KeyError, TypeError):
        return None
    return sorted(map(str, heads)) if isinstance(heads, list) else None


def require_runnable(host: Host, release_id: str, *, despite: bool) -> None:
    """See that a release can run on the database as it is, before traffic goes there.

    :param despite: somebody knows better.
    :raises Refused: with the reason, and the releases that can.
    """
    history = History.of(host)
    if despite or history.carried.get(release_id) is None or not history.revisions:
        return
    if history.lacks(release_id, history.revisions):
        _require_still(host)
        heads = ask(host)
    elif history.alike(release_id, host.layout.active()):
        # An active release that hangs is left without asking it anything.
        return
    else:
        heads = glance(host)
    why = history.obstacle(release_id, heads)
    if not why:
        return
    others = [one for one in reversed(host.layout.staged()) if one not in (release_id, host.layout.active())]
    able = [one for one in others if not history.obstacle(one, heads)]
    words = f"safe to go back to: {', '.join(able)}" if able else "no other release on this host can either"
    raise Refused(
        f"{release_id} cannot run on the database's schema: {why}; {words}. "
        f"Who knows that it can says {DESPITE}",
        next_command=host.command(f"rollback {able[0]}" if able else "list"),
        evidence={"candidates": able},
    )


def _require_still(host: Host) -> None:
    """See that no migration goes on that nobody waits for any more: what it changes cannot be seen yet.

    :raises Refused: when one does.
    """
    patterns = [f"{host.settings.app}-{kind}@*" for kind in (units.MIGRATE, units.CONTRACT)]
    busy = [name for name, state in systemd.matching(*patterns).items() if not state.down]
    if busy:
        raise Refused(
            f"a migration is still running: {', '.join(busy)}", next_command=f"systemctl status {busy[0]}"
        )


def live(host: Host) -> list[str] | None:
    """Return the revisions the database is at, however they can be had; nothing when they cannot."""
    heads = glance(host)
    return ask(host) if heads is None else heads


def note(has: Carried, command: str) -> dict:
    """Return what the ledger keeps of a migration that succeeded."""
    return {"heads": list(has.heads), "command": command}


def remembered(host: Host, told: dict) -> bool:
    """Whether the ledger has a migration that succeeded with this note."""
    entries = ledger.read(host.layout.ledger)
    return any(
        entry.get("command") == "migrate" and entry.get("result") == "done" and entry.get("schema") == told
        for entry in entries
    )


def require_in_order(host: Host, release_id: str, has: Carried, applied: set[str]) -> None:
    """See that nothing a release needs stands on what may only be applied later.

    :param has: what it carries.
    :raises Refused: naming both.
    """
    late = set(has.pending(applied, contract=True))
    for one in (has.revisions[name] for name in has.pending(applied, contract=False)):
        if behind := sorted(late & set(one.down)):
            active = host.layout.active()
            raise Refused(
                f"{one.name} of {release_id} stands on {', '.join(behind)}, "
                "which contracts and is not applied",
                next_command=host.command(f"migrate --contract {active}" if active else "list"),
            )
