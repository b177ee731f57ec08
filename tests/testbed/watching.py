"""A provisioned host that was then put into the group `monitoring`, and what its Prometheus says."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from testbed import consoles, converged, durations, sites
from testbed.consoles import Answer
from testbed.sites import Declaration, Site, until

GROUPS = ("app_servers", "databases", "brokers", "monitoring")
RECEIVER_PORT = 9099
# No secret of anybody's: this host lives as long as its tests.
TOKEN = "as-good-as-any-other"
SETTINGS = {
    "monitoring_scrape_interval": "5s",
    "monitoring_page_by": ["webhook"],
    "monitoring_ticket_by": ["webhook"],
    "monitoring_webhook_url": f"http://127.0.0.1:{RECEIVER_PORT}/",
    "monitoring_secrets": {"webhook_token": TOKEN},
}


def start(declaration: Declaration, say) -> Site:
    """Start a provisioned host and switch monitoring on, as one would a year later."""
    site = converged.start(declaration, say)
    sites.write_inventory(
        declaration.path,
        declaration.name,
        declaration.host_vars(),
        {**declaration.group_vars, **SETTINGS},
        groups=GROUPS,
    )
    play = site.play("site", label="site.yml with monitoring").ok()
    durations.record(play.title, play.seconds)
    return site


def ask(site: Site, page: str) -> Any:
    """Return what Prometheus' API says."""
    answer = json.loads(site.sudo(f"curl -sS --max-time 10 'http://127.0.0.1:9090/api/v1/{page}'"))
    assert answer["status"] == "success", answer
    return answer["data"]


def query(site: Site, expression: str) -> list[dict[str, Any]]:
    """Return the series that an expression yields now."""
    return ask(site, f"query?query={quote(expression)}")["result"]


def rules(site: Site, kind: str) -> list[dict[str, Any]]:
    """Return Prometheus' rules of a kind: `alert` or `record`."""
    return [rule for group in ask(site, f"rules?type={kind}")["groups"] for rule in group["rules"]]


def pages(site: Site, addresses: Sequence[str]) -> list[Answer]:
    """Return what Prometheus answers to each of several pages' addresses."""
    stdin = json.dumps(addresses).encode()
    told = site.sudo(f"python3 -c {shlex.quote(consoles.ASK)}", stdin=stdin, timeout_seconds=300)
    return consoles.answers(told)


def empty(site: Site, expressions: Sequence[str]) -> list[str]:
    """Return the expressions that yield nothing now."""
    return consoles.empty(expressions, pages(site, consoles.queries(expressions)))


@contextmanager
def query_log(site: Site) -> Iterator[Callable[[], str]]:
    """Have Prometheus keep a log of what it is asked; what is yielded reads it. Nothing of it remains."""
    settings, kept = "/etc/prometheus/prometheus.yml", "/run/prometheus.yml.kept"
    log = "/var/lib/prometheus/queries.log"
    site.sudo(f"cp -p {settings} {kept} && sed -i 's,^global:,&\\n  query_log_file: {log},' {settings}")
    try:
        site.sudo("systemctl kill --signal=HUP prometheus.service")
        yield lambda: site.sudo(f"touch {log} && cat {log}")
    finally:
        # Afresh, all that role monitoring restarts once this file is newer than they are: the next run of
        # site.yml is to find nothing to do.
        units = "prometheus prometheus-alertmanager prometheus-blackbox-exporter"
        site.sudo(f"cp -p {kept} {settings} && rm {kept} && systemctl restart {units} && rm -f {log}")
        ready = "curl --silent http://127.0.0.1:9090/-/ready || true"
        assert until(60, lambda: "is Ready" in site.sudo(ready), 1), site.sudo(ready)
