"""Bring the database to what a release expects, before any traffic goes there."""

from __future__ import annotations

import time

from releasectl import systemd, units
from releasectl.errors import Failed, Interrupted
from releasectl.host import Host
from releasectl.output import Result


def migrate(host: Host, release_id: str) -> Result:
    """Run a release's migrate command in its own unit, and wait for it.

    :raises Refused: when the release is not staged.
    :raises Failed: when it fails, or is not done within `migrate_timeout_seconds`; it is stopped then.
    """
    host.require_staged(release_id)
    data = {"release": release_id}
    if not host.layout.variable(release_id, "MIGRATE_COMMAND"):
        return Result("nothing to migrate", False, f"{release_id} has no migrate command", data)
    unit = units.service(host.settings.app, release_id, units.MIGRATE)
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
    return Result("migrated", True, f"{release_id}: the migrate command is done", data)


def _failure(host: Host, unit: str, since: float) -> Failed:
    state = systemd.show(unit)
    if state.down:
        cause = f"{unit} failed ({state.result}, exit status {state.exit_status})"
    else:
        cause = f"{unit} was not done within {host.settings.migrate_timeout_seconds:g} s and was stopped"
        systemd.stop(unit, host.settings.stop_timeout_seconds)
    evidence = {"unit": unit, "journal": systemd.journal(unit, since)}
    # Told here and in the ledger: a unit that stays failed would only hide the next one that fails.
    systemd.reset_failed(unit)
    return Failed(cause, next_command=f"sudo journalctl -u {unit} -n 200", evidence=evidence)
