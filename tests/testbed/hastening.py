"""Alerts of days and minutes in seconds: the rules of a watched host with every time in them shortened."""

from __future__ import annotations

import re
from collections.abc import Callable

from testbed.sites import Site

RULES_DIR = "/etc/prometheus/rules"
ROUTES = "/etc/prometheus/alertmanager.yml"
# Longer stays longer, and each window holds four of the test's scrapes at least. What was true of a day holds
# for two minutes, so that an alert ends, too, while a test waits.
WINDOWS = {
    "5m": "20s",
    "15m": "30s",
    "30m": "40s",
    "1h": "50s",
    "2h": "1m",
    "6h": "80s",
    "1d": "2m",
    "3d": "3m",
}
WAIT = "10s"
# A quarter of an hour in which beat or a queue stands still. Beat looks at its schedule every five seconds.
STANDSTILL = (" > 900", " > 25")
# For how long a drop of the journal's is told.
REMEMBERED = (" < 1800", " < 40")
# The first word about an alert waits, as in production, for another one that makes it needless.
ROUTE_TIMES = (("group_wait: 30s", "group_wait: 10s"), ("group_interval: 5m", "group_interval: 5s"))


def hasten(site: Site) -> None:
    """Shorten what the rules wait for and look back over, on the host alone: `site.yml` takes it back."""
    for path in site.sudo(f"ls {RULES_DIR}/*.yml").split():
        _rewrite(site, path, _sooner)
    _rewrite(site, ROUTES, _told_sooner)
    site.sudo("promtool check config /etc/prometheus/prometheus.yml")
    site.sudo("systemctl reload prometheus.service prometheus-alertmanager.service")


def _rewrite(site: Site, path: str, change: Callable[[str], str]) -> None:
    site.sudo(f"cat > {path}", stdin=change(site.sudo(f"cat {path}")).encode())


def _sooner(rules: str) -> str:
    rules = re.sub(r"(\[|offset )(\d+[mhd])\b", lambda found: found[1] + WINDOWS[found[2]], rules)
    rules = re.sub(r"for: \d+m\b", f"for: {WAIT}", rules)
    return rules.replace(*STANDSTILL).replace(*REMEMBERED)


def _told_sooner(routes: str) -> str:
    for old, new in ROUTE_TIMES:
        assert old in routes, old
        routes = routes.replace(old, new)
    return routes
