"""A host that watches itself sees what it should, and people are told of each fault and of nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import breaking
import pytest
from changes import FACTORY, IMPORT
from observing import status_of
from testbed import hastening, watching
from testbed.sites import Site, until
from testbed.watching import RECEIVER_PORT, TOKEN

pytestmark = pytest.mark.long

# Not below /run: it is to be there after a reboot too.
FOLDER = "/var/tmp/alerted-by-tests"
TOLD = f"{FOLDER}/told.jsonl"
UNIT = "alerted-by-tests.service"
# How long an alert may take to reach people, and to end once its cause has: on a busy machine.
PATIENCE_SECONDS = 180
# What comes of a fault besides its own alert comes within this.
LATER_SECONDS = 20


def is_the_hosts(labels: dict[str, str]) -> bool:
    """Whether an alert is about the host. Its disk is the testing machine's, which may well fill up."""
    return labels["alertname"] != "DiskFilling" or labels["mountpoint"] == breaking.FILLED_DIR


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
        found = [one["metric"] for one in watching.query(watched, "ALERTS")]
        return {labels["alertname"] for labels in found if is_the_hosts(labels)}

    assert until(60, lambda: alerts() == {"Watchdog"}, 2), watching.query(watched, "ALERTS")


FAULTS: dict[str, tuple[breaking.Fault, set[str]]] = {
    "worker stopped": (breaking.stopped("{app}-worker@{release}.service"), {"WorkerAway", "QueueStuck"}),
    "table gone": (breaking.table_gone, {"SloBurnsFast"}),
    "table locked": (breaking.table_locked, {"SloBurnsFast"}),
    "nginx stopped": (breaking.stopped("nginx.service"), {"SiteDown", "ExporterDown"}),
    "beat stopped": (breaking.stopped("{app}-beat@{release}.service"), {"BeatSilent"}),
    "exporter stopped": (breaking.stopped("prometheus-redis-exporter.service"), {"ExporterDown"}),
    "host silent": (breaking.stopped("prometheus-node-exporter.service"), {"HostDown"}),
    "disk full": (breaking.disk_full, {"DiskFilling"}),
    "certificate short": (breaking.certificate_short, {"CertificateNearExpiry"}),
    "journal flooded": (breaking.journal_flooded, {"JournalDropsLines"}),
    "unit failed": (breaking.unit_failed, {"UnitFailed"}),
    "deploy failed": (breaking.deploy_failed, {"ReleaseFailed"}),
    "redis full": (breaking.redis_full, {"RedisMemoryHigh"}),
}
PAGES = {"SloBurnsFast", "SiteDown"}


class People:
    """Whom Alertmanager tells, on the host itself."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.listen()

    def listen(self) -> None:
        """Begin to listen, anew after the host was started again; what they were told before is kept."""
        program = (Path(__file__).parent / "alerted/receiver.py").read_bytes()
        site = self.site
        site.sudo(f"mkdir -p {FOLDER} && cat > {FOLDER}/receiver.py && touch {TOLD}", stdin=program)
        site.sudo(f"systemd-run --quiet --unit={UNIT} python3 {FOLDER}/receiver.py {RECEIVER_PORT} {TOLD}")

    def count(self) -> int:
        """Return how much they have been told so far."""
        return int(self.site.sudo(f"wc -l < {TOLD}"))

    def told(self, after: int) -> list[dict]:
        """Return what they were told since that fires, besides that all works."""
        alerts = map(json.loads, self.site.sudo(f"tail -n +{after + 1} {TOLD}").splitlines())
        firing = [one for one in alerts if one["status"] == "firing" and is_the_hosts(one["labels"])]
        return [one for one in firing if one["labels"]["alertname"] != "Watchdog"]


@pytest.fixture(scope="module")
def people(watched) -> Iterator[People]:
    """Have somebody listen who is told of alerts, and alerts come within seconds."""
    people = People(watched)
    hastening.hasten(watched)
    yield people
    watched.sudo(f"systemctl stop {UNIT}; rm -rf {FOLDER}")


def firing(site: Site) -> set[str]:
    """Return the alerts that fire."""
    found = [one["metric"] for one in watching.query(site, 'ALERTS{alertstate="firing"}')]
    return {labels["alertname"] for labels in found if is_the_hosts(labels)} - {"Watchdog"}


@pytest.mark.parametrize("name", FAULTS)
def test_people_are_told_of_a_fault_and_of_nothing_else(watched, people, copied_app, name):
    fault, wanted = FAULTS[name]
    assert until(PATIENCE_SECONDS, lambda: not firing(watched), 2), firing(watched)
    before, began = people.count(), time.monotonic()

    def told() -> set[str]:
        return {one["labels"]["alertname"] for one in people.told(before)}

    with fault(watched, copied_app):
        assert until(PATIENCE_SECONDS, lambda: wanted <= told(), 1), watching.query(watched, "ALERTS")
        seconds = time.monotonic() - began
        time.sleep(LATER_SECONDS)
        assert told() == wanted, people.told(before)
    print(f"{name}: told of {', '.join(sorted(wanted))} within {seconds:.0f} s, the alerts' times shortened")
    for one in people.told(before):
        alert = one["labels"]["alertname"]
        assert one["labels"]["severity"] == ("page" if alert in PAGES else "ticket")
        assert one["labels"]["app"] == watched.app
        assert one["annotations"]["runbook_url"] == f"docs/runbooks/{alert}.md"
        assert one["signed"] == f"Bearer {TOKEN}"
    assert until(PATIENCE_SECONDS, lambda: not firing(watched), 2), firing(watched)


def test_people_are_told_of_nothing_that_happens_in_maintenance(watched, people):
    assert until(PATIENCE_SECONDS, lambda: not firing(watched), 2), firing(watched)
    before, worker = people.count(), f"{watched.app}-worker@{status_of(watched)['active']}.service"

    def suppressed() -> set[str]:
        alerts = json.loads(watched.sudo("curl -sS http://127.0.0.1:9093/api/v2/alerts"))
        return {one["labels"]["alertname"] for one in alerts if one["status"]["inhibitedBy"]}

    with breaking.undone(watched, "releasectl maintenance on", "releasectl maintenance off"):
        # Of the host, and, as it is the only one, of the app.
        closed = 'ALERTS{alertname="MaintenanceOn", alertstate="firing"}'
        assert until(60, lambda: len(watching.query(watched, closed)) == 2, 2), firing(watched)
        with breaking.undone(watched, f"systemctl stop {worker}", f"systemctl start {worker}"):
            wanted = {"WorkerAway", "QueueStuck"}
            assert until(PATIENCE_SECONDS, lambda: suppressed() == wanted, 2), suppressed()
            time.sleep(LATER_SECONDS)
        # It is closed until what was stopped is up again, as people would keep it.
        assert until(PATIENCE_SECONDS, lambda: not suppressed(), 2), suppressed()
    assert people.told(before) == []
    assert until(PATIENCE_SECONDS, lambda: not firing(watched), 2), firing(watched)


def test_people_are_told_of_nothing_by_a_deploy_a_rollback_and_a_reboot(watched, people, copied_app):
    assert until(PATIENCE_SECONDS, lambda: not firing(watched), 2), firing(watched)
    before, served = people.count(), status_of(watched)["active"]
    source = copied_app(FACTORY, IMPORT, f"{IMPORT}# {time.time()}\n")
    watched.play("deploy", extra={"app_source": str(source)}, label="a good deploy").ok()
    assert status_of(watched)["active"] != served
    time.sleep(LATER_SECONDS)
    watched.play("rollback", label="a rollback").ok()
    assert status_of(watched)["active"] == served
    time.sleep(LATER_SECONDS)
    assert people.told(before) == []
    # Whom the host itself tells goes down with it.
    before = people.count()
    watched.restart()
    people.listen()
    assert until(PATIENCE_SECONDS, lambda: status_of(watched)["problems"] == [], 2), status_of(watched)
    time.sleep(LATER_SECONDS)
    assert people.told(before) == []
    assert firing(watched) == set()


def test_site_yml_takes_back_what_somebody_changed_in_a_rule(watched, people):
    changed = watched.play("site", "--tags=monitoring", label="site.yml after tampering").ok().changed_tasks
    assert any("Install the prometheus tree" in task for task in changed), changed
    assert f"for: {hastening.WAIT}" not in watched.sudo("cat /etc/prometheus/rules/tasks.yml")
