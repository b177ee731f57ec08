"""Read what others tell Prometheus, and what Prometheus makes of it, for the status page."""

from __future__ import annotations

import http.client
import json
import math
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from releasectl import clock
from releasectl.errors import Failed, Refused

PROMETHEUS_SECONDS = 3
LONGEST_ANSWER = 1024 * 1024
DAY_SECONDS = 86400

SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

# What an app promises, and the share of events that were bad in thirty days, or since Prometheus
# knows of any: as the console slo.html has both.
GOALS = 'app:slo_objective:ratio{{app="{app}"}}'
BAD_SHARES = (
    'avg_over_time(app:slo_bad_events:rate5m{{app="{app}"}}[30d])'
    ' / (avg_over_time(app:slo_events:rate5m{{app="{app}"}}[30d]) > 0)'
)


def samples(text: str, *names: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield name, labels and value of some metrics of a text in Prometheus' format.

    :param names: which; of hundreds of lines few are wanted.
    """
    for line in text.splitlines():
        if line.startswith(names) and (found := SAMPLE.match(line)) and found[1] in names:
            try:
                value = float(found[3])
            except ValueError:
                continue
            if math.isfinite(value):
                yield found[1], dict(LABEL.findall(found[2] or "")), value


def workers(text: str, release: str, service: str) -> dict:
    """Return how many workers of a release are up, since when each, and what they do.

    :param text: the app's metrics, of every release and service that runs.
    :raises Failed: when they tell of no worker.
    """
    begun, up = "flask_ops_worker_start_time_seconds", "flask_ops_workers"
    busy, most = "flask_ops_in_flight_requests", "flask_ops_in_flight_limit"
    started, told = {}, {}
    for name, labels, value in samples(text, begun, up, busy, most):
        # An app without labels of ours is alone.
        if labels.get("release", release) != release or labels.get("service", service) != service:
            continue
        if name == begun:
            started[labels.get("worker", "")] = clock.stamp(value)
        else:
            told[name] = round(value)
    if up not in told:
        raise Failed("/metrics tells of no worker")
    return {
        "up": told[up],
        "in_flight": told.get(busy),
        "in_flight_limit": told.get(most),
        "started": [{"worker": slot, "at": at} for slot, at in sorted(started.items())],
    }


def certificates(path: str) -> list[dict]:
    """Return what tlsctl tells of the certificate on disk and of the one served.

    :param path: of what it writes for Prometheus; empty: it is not asked.
    :raises Refused: when nobody said where that is.
    :raises Failed: when it cannot be read, or tells of none.
    """
    if not path:
        raise Refused("nothing looks after certificates here")
    ends, due, last = (
        "tls_certificate_not_after_timestamp_seconds",
        "tls_certificate_renewal_due_timestamp_seconds",
        "tls_renewal_last_run_success",
    )
    try:
        told = list(samples(Path(path).read_text(), ends, due, last))
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}") from error
    now, one = time.time(), {name: value for name, _, value in told if name != ends}
    found = [
        {
            "where": labels.get("where", ""),
            "not_after": clock.stamp(value),
            "days_left": math.floor((value - now) / DAY_SECONDS),
            "renewal_due": clock.stamp(one[due]) if due in one else None,
            "renewal_overdue": now > one.get(due, now),
            "last_renewal_ok": bool(one[last]) if last in one else None,
        }
        for name, labels, value in told
        if name == ends
    ]
    if not found:
        raise Failed(f"{path} tells of no certificate")
    return found


def budgets(url: str, app: str) -> list[dict]:
    """Return an app's goals and what is left of what they allow to go wrong in thirty days.

    :param url: of a Prometheus on this host; empty: there is none.
    :raises Refused: when there is none.
    :raises Failed: when it does not answer, or knows no goal.
    """
    if not url:
        raise Refused("this host has no Prometheus")
    goals, bad = (_by_goal(url, expression.format(app=app)) for expression in (GOALS, BAD_SHARES))
    if not goals:
        raise Failed("Prometheus knows no goal of this app")
    return [
        {
            "goal": goal,
            "promised": promised,
            "bad_share": bad.get(goal),
            "budget_used": bad[goal] / (1 - promised) if goal in bad and promised < 1 else None,
        }
        for goal, promised in sorted(goals.items())
    ]


def _by_goal(url: str, expression: str) -> dict[str, float]:
    """Return what an expression yields now, by the label that names the goal."""
    place = urlsplit(url)
    # Not urllib's opener, which would take the environment's word for a proxy.
    connection = http.client.HTTPConnection(
        place.hostname or "", place.port or 80, timeout=PROMETHEUS_SECONDS
    )
    asked = urlencode({"query": expression, "timeout": f"{PROMETHEUS_SECONDS}s"})
    try:
        connection.request("GET", f"{place.path.rstrip('/')}/api/v1/query?{asked}")
        answer = json.loads(connection.getresponse().read(LONGEST_ANSWER))
        found = [(each["metric"]["slo"], float(each["value"][1])) for each in answer["data"]["result"]]
    except (OSError, http.client.HTTPException) as error:
        raise Failed(f"Prometheus does not answer: {error or type(error).__name__}") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise Failed(f"Prometheus answers something else: {type(error).__name__} {error}") from error
    finally:
        connection.close()
    return {goal: value for goal, value in found if math.isfinite(value)}
