"""A host that watches itself sees what it should, and its people are told when something breaks."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from observing import status_of
from testbed import watching
from testbed.sites import until
from testbed.watching import RECEIVER_PORT, TOKEN

pytestmark = pytest.mark.long

FOLDER = "/run/alerted-of-tests"
TOLD = f"{FOLDER}/told.jsonl"
UNIT = "alerted-of-tests.service"
PATIENCE_SECONDS = 180


@pytest.fixture(scope="module")
def people(watched):
    """Have somebody listen who is told of alerts; return what they were told, when asked."""
    program = (Path(__file__).parent / "alerted/receiver.py").read_bytes()
    watched.sudo(f"mkdir -p {FOLDER} && cat > {FOLDER}/receiver.py && touch {TOLD}", stdin=program)
    watched.sudo(f"systemd-run --quiet --unit={UNIT} python3 {FOLDER}/receiver.py {RECEIVER_PORT} {TOLD}")
    yield lambda: [json.loads(line) for line in watched.sudo(f"cat {TOLD}").splitlines()]
    watched.sudo(f"systemctl stop {UNIT}")


def test_a_second_run_changes_nothing(watched):
    again = watched.play("site", label="site.yml again").ok()
    assert again.changed == 0, again.changed_tasks


def test_every_target_is_reached(watched):
    def seen() -> dict[str, str]:
        found = watching.ask(watched, "targets?state=active")["activeTargets"]
        return {
            f"{one['labels']['job']} {one['scrapeUrl']}": one["health"] + one["lastError"] for one in found
        }

    assert until(60, lambda: set(seen().values()) == {"up"}, 2), seen()
    jobs = {name.split()[0] for name in seen()}
    assert jobs == {"app", "monitoring", "nginx", "node", "postgres", "redis", "releasectl", "site", "tls"}


def test_every_recording_has_data_under_light_load_and_every_rule_is_healthy(watched):
    recordings = watching.rules(watched, "record")
    # Goals are recorded by one name.
    wanted = {f"{rule['name']}{{slo=~'{rule.get('labels', {}).get('slo', '.*')}'}}" for rule in recordings}
    assert len(wanted) > 15

    def missing() -> list[str]:
        for _ in range(5):
            watched.web.get("/")
        watched.sender.send(f"light-load-{time.time()}")
        return sorted(series for series in wanted if not watching.query(watched, series))

    assert until(PATIENCE_SECONDS, lambda: not missing(), 3), missing()
    health = {
        rule["name"]: rule["health"] + rule.get("lastError", "")
        for kind in ("alert", "record")
        for rule in watching.rules(watched, kind)
    }
    assert set(health.values()) == {"ok"}, health


def test_nothing_fires_or_is_about_to_on_a_host_that_is_well(watched):
    def alerts() -> set[str]:
        return {one["metric"]["alertname"] for one in watching.query(watched, "ALERTS")}

    assert until(60, lambda: alerts() == {"Watchdog"}, 2), watching.query(watched, "ALERTS")


def hurry(watched) -> None:
    """Have alerts about tasks wait for seconds; the five minutes are for people's nights."""
    watched.sudo(
        "sed -i 's/for: 5m/for: 10s/' /etc/prometheus/rules/tasks.yml && systemctl reload prometheus.service"
    )


def test_people_are_told_that_the_worker_is_away_until_it_is_back(watched, people):
    worker = f"{watched.app}-worker@{status_of(watched)['active']}.service"
    hurry(watched)

    def told() -> list[dict]:
        return [one for one in people() if one["labels"]["alertname"] == "WorkerAway"]

    watched.sudo(f"systemctl stop {worker}", timeout_seconds=150)
    try:
        assert until(PATIENCE_SECONDS, told, 2), watching.query(watched, "ALERTS")
    finally:
        watched.sudo(f"systemctl start {worker}", timeout_seconds=150)
    alert = told()[0]
    assert (alert["status"], alert["labels"]["severity"]) == ("firing", "ticket")
    assert alert["annotations"]["summary"] == f"No worker of {watched.app} runs on {watched.name}"
    assert alert["signed"] == f"Bearer {TOKEN}"
    assert until(60, lambda: not watching.query(watched, 'ALERTS{alertname="WorkerAway"}'), 2)


def test_people_are_not_told_of_what_happens_in_maintenance(watched, people):
    worker = f"{watched.app}-worker@{status_of(watched)['active']}.service"
    hurry(watched)

    def away() -> list[tuple[str, int]]:
        alerts = json.loads(watched.sudo("curl -sS http://127.0.0.1:9093/api/v2/alerts"))
        found = [one["status"] for one in alerts if one["labels"]["alertname"] == "WorkerAway"]
        return [(status["state"], len(status["inhibitedBy"])) for status in found]

    watched.sudo("releasectl maintenance on")
    try:
        # Of the host, and, as it is the only one, of the app.
        firing = 'ALERTS{alertname="MaintenanceOn", alertstate="firing"}'
        assert until(60, lambda: len(watching.query(watched, firing)) == 2, 2), watching.query(
            watched, "ALERTS"
        )
        watched.sudo(f"systemctl stop {worker}", timeout_seconds=150)
        assert until(PATIENCE_SECONDS, lambda: away() == [("suppressed", 1)], 2), away()
        # Half a minute later people would have been told of either.
        assert not until(
            45, lambda: away() != [("suppressed", 1)] or "MaintenanceOn" in json.dumps(people()), 3
        ), (away(), people())
    finally:
        watched.sudo(f"systemctl start {worker}", timeout_seconds=150)
        watched.sudo("releasectl maintenance off")
    assert until(60, lambda: not watching.query(watched, 'ALERTS{alertname="WorkerAway"}'), 2)


def test_site_yml_takes_back_what_somebody_changed_in_a_rule(watched):
    changed = watched.play("site", "--tags=monitoring", label="site.yml after tampering").ok().changed_tasks
    assert any("Install the prometheus tree" in task for task in changed), changed
    assert "for: 10s" not in watched.sudo("cat /etc/prometheus/rules/tasks.yml")
