"""Bring the database to what a release expects, before any traffic goes there; contract it afterwards."""

from __future__ import annotations

import time

from releasectl import contract, records, schema, starting, systemd, units
from releasectl.errors import Failed, Interrupted, Refused
from releasectl.host import Host
from releasectl.output import Result
from releasectl.schema import Carried, History

# The exit status with which flask_ops.migrating says that a lock was not to be had, and its events.
GAVE_UP = "75"
WAITS, GIVES_UP = "the migration waits for a lock", "the migration gave up on a lock"


def migrate(host: Host, release_id: str) -> Result:
    """Run a release's migrate command in its own unit, and wait for it.

    What contracts is left out. Nothing is started when the command has succeeded before with the same
    revisions and the database has them.

    :raises Refused: when the release is not staged, or needs a revision that stands on one that contracts.
    :raises Failed: when it fails, or is not done within `migrate_timeout_seconds`; it is stopped then.
    """
    host.require_staged(release_id)
    command = host.layout.variable(release_id, "MIGRATE_COMMAND")
    if not command:
        return Result(
            "nothing to migrate", False, f"{release_id} has no migrate command", {"release": release_id}
        )
    has = (history := History.of(host)).carried.get(release_id)
    done_before = has is not None and schema.remembered(host, schema.note(has, command))
    # Asked for only where the answer makes a difference.
    asked = has is not None and bool(done_before or has.contracts)
    applied = history.applied(schema.live(host)) if asked else None
    late = has.pending(applied or (), contract=True) if has else []
    data = {"release": release_id, "schema": _note(has, command), "contract_pending": late}
    if has and applied is not None:
        if done_before and _nothing_to_do(host, has, applied):
            words = f"the database has what {release_id} needs, and its command has succeeded before"
            return Result("nothing to migrate", False, words + _left(late), {**data, "waits": []})
        schema.require_in_order(host, release_id, has, applied)
    waits = _run(host, release_id, units.MIGRATE)
    words = f"{release_id}: the migrate command is done{_left(late)}"
    return Result("migrated", True, words, {**data, "waits": waits})


def _nothing_to_do(host: Host, has: Carried, applied: set[str]) -> bool:
    wanted = host.settings.migrate_skip and bool(has.revisions)
    return wanted and not has.pending(applied, contract=False)


def _left(late: list[str]) -> str:
    return f"\n  note: left for `migrate --contract`: {', '.join(late)}" if late else ""


def _note(has: Carried | None, command: str) -> dict | None:
    return schema.note(has, command) if has else None


def apply_contract(host: Host, release_id: str | None) -> Result:
    """Apply the revisions that contract, once no release that needs the old schema can come back.

    :param release_id: the release that carries them; nothing for the active one.
    :raises Refused: when such a release could, or there is nothing that is known to contract.
    :raises Failed: as :func:`migrate`.
    """
    release_id = release_id or host.layout.active()
    if release_id is None:
        raise Refused("no release is active", next_command=host.command("list"))
    host.require_staged(release_id)
    command = host.layout.variable(release_id, "MIGRATE_COMMAND")
    history = History.of(host)
    if not command or history.carried.get(release_id) is None:
        what = "it is not known which revisions it carries" if command else "it has no migrate command"
        raise Refused(f"{release_id} contracts nothing: {what}", next_command=host.command("list"))
    names = contract.pending(history, release_id, schema.ask(host))
    data = {"release": release_id, "contracted": names}
    if not names:
        words = f"{release_id}: nothing that contracts is pending"
        return Result("nothing to contract", False, words, {**data, "waits": []})
    contract.require_allowed(host, history, release_id, names)
    waits = _run(host, release_id, units.CONTRACT)
    words = f"{release_id}: {', '.join(names)} is applied"
    return Result("contracted", True, words, {**data, "waits": waits})


def _run(host: Host, release_id: str, kind: str) -> list[str]:
    """Run one of a release's units to its end; return what it had to wait for.

    :raises Failed: when it fails or takes too long.
    """
    unit = units.service(host.settings.app, release_id, kind)
    since, limit = time.time(), host.settings.migrate_timeout_seconds
    host.out.progress(f"running {unit}, {limit:g} s at most")
    systemd.reset_failed(unit)
    try:
        done = systemd.start(unit, limit)
    except Interrupted:
        # The unit goes on without us: half a migration is worse than one nobody waits for.
        raise Failed(f"interrupted; {unit} still runs", next_command=f"systemctl status {unit}") from None
    if not done:
        raise _failure(host, unit, since)
    waits = [_wait_words(told) for told in _events(systemd.journal(unit, since), WAITS)]
    for line in waits:
        host.out.progress(line)
    return waits


def _failure(host: Host, unit: str, since: float) -> Failed:
    state, lines = systemd.show(unit), systemd.journal(unit, since)
    gave_up = _events(lines, GIVES_UP)
    if state.down and state.exit_status == GAVE_UP and gave_up:
        cause = f"{unit} gave up on a lock; {_wait_words(gave_up[-1])}"
    elif state.down:
        cause = f"{unit} failed ({state.result}, exit status {state.exit_status})"
    else:
        cause = f"{unit} was not done within {host.settings.migrate_timeout_seconds:g} s and was stopped"
        systemd.stop(unit, host.settings.stop_timeout_seconds)
    waits = [_wait_words(told) for told in _events(lines, WAITS)]
    told = [part for line in lines for part in starting.readable(line)]
    evidence = {"unit": unit, "journal": told, **({"remarks": waits} if waits else {})}
    # Told here and in the ledger: a unit that stays failed would only hide the next one that fails.
    systemd.reset_failed(unit)
    return Failed(cause, next_command=f"sudo journalctl -u {unit} -n 200", evidence=evidence)


def _events(lines: list[str], event: str) -> list[dict]:
    """Return what a unit's journal tells of one kind of event."""
    return [told for told in map(records.parse, lines) if told and told.get("event") == event]


def _wait_words(told: dict) -> str:
    attempt = f"attempt {told['attempt']} of {told['attempts']} " if "attempt" in told else ""
    return f"{attempt}waited for {told.get('blocked_by') or 'somebody'}"
