"""What hosts say of their apps, asked on the hosts themselves."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from testbed.fleets import Fleet
from testbed.sites import Site, until


def status_of(site: Site, app: str = "") -> dict:
    """Return what releasectl says of an app."""
    return json.loads(site.sudo(f"releasectl --app {app or site.app} --json status"))


def units_up(site: Site, app: str = "") -> list[str]:
    """Return the app's units that are loaded: running, failed, or on their way."""
    listed = site.sudo(f"systemctl list-units --all --plain --no-legend '{app or site.app}-*@*'")
    # One that is no longer started at boot is listed until systemd reads its units again.
    lines = [line.split() for line in listed.splitlines()]
    return sorted(words[0] for words in lines if words[2] != "inactive")


def units_of(app: str, release: str) -> list[str]:
    """Return the units of a release of an app with Celery, a schedule and Flower."""
    services = [f"{app}-{kind}@{release}.service" for kind in ("beat", "flower", "web", "worker")]
    return sorted([*services, f"{app}-web@{release}.socket"])


def units_left(site: Site, app: str = "", seconds: float = 45) -> list[str]:
    """Return the app's units once none of them is stopping any more.

    releasectl tells the instance it has left to stop, and does not wait for it: it may finish its requests,
    for as long as app_stop_timeout_seconds.
    """
    states = f"systemctl list-units --all --plain --no-legend '{app or site.app}-*@*' | awk '{{print $3}}'"
    until(seconds, lambda: "deactivating" not in site.sudo(states).split(), interval_seconds=0.5)
    return units_up(site, app)


def failed_units(site: Site) -> str:
    """Return the host's failed units."""
    return site.sudo("systemctl list-units --failed --plain --no-legend")


def statuses(fleet: Fleet) -> list[dict]:
    """Return what releasectl says on each app host of a fleet."""
    return [status_of(site) for site in fleet.apps]


def actives(fleet: Fleet) -> list[str]:
    """Return the release that each app host of a fleet serves."""
    return [status["active"] for status in statuses(fleet)]


def same(values: Iterable[Any]) -> Any:
    """Return what all of them are; fail where they differ."""
    found = list(values)
    assert all(value == found[0] for value in found), found
    return found[0]


def settled(fleet: Fleet) -> str:
    """See that every host serves one release, alone, with nobody's lock and nothing failed; return it."""
    told = statuses(fleet)
    active = same(status["active"] for status in told)
    assert [status["deploy_lock"] for status in told] == [None] * len(told)
    for site in fleet.apps:
        # A Flower that was left may take until its time limit: it hears Redis over TLS, and listens on.
        left = [unit for unit in units_left(site) if "-flower@" not in unit or active in unit]
        assert left == units_of(site.app, active)
        assert failed_units(site) == ""
        assert site.web.release() == active
    return active
