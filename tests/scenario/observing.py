"""What a host says of its apps, asked on the host itself."""

from __future__ import annotations

import json

from testbed.sites import Site, until


def status_of(site: Site, app: str = "") -> dict:
    """Return what releasectl says of an app."""
    return json.loads(site.sudo(f"releasectl --app {app or site.app} --json status"))


def units_up(site: Site, app: str = "") -> list[str]:
    """Return the app's units that are loaded: running, failed, or on their way."""
    listed = site.sudo(f"systemctl list-units --all --plain --no-legend '{app or site.app}-*@*'")
    return sorted(line.split()[0] for line in listed.splitlines())


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
