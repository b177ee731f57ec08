"""Prometheus, Alertmanager and Blackbox on a host of the group monitoring, and nothing of them elsewhere."""

from __future__ import annotations

import re
import time

import pytest
from target_host.shell import PROJECT_DIR
from testbed import consoles, dashboards, watching
from testbed.sites import until
from testbed.watching import TOKEN

UNITS = ("prometheus", "prometheus-alertmanager", "prometheus-blackbox-exporter")
PATIENCE_SECONDS = 180
# Expressions that find nothing on a host that is new and well, and why.
NOTHING = {
    r" offset |^max_over_time": "it has no past",
    r'alertstate="(pending|firing)"': "nothing is wrong; that Watchdog fires, the page itself says",
    r"^journal_last_drop": "the journal dropped nothing",
    r'state="failed", .*== 1$': "no unit has failed",
    r'state=~?"(failure|retry|failure\|retry)"': "no task has failed",
    r'status=~"5\.\."': "no request has failed",
}


def unexplained(expressions: list[str]) -> list[str]:
    """Return those of which it is not known why they should find nothing."""
    return [each for each in expressions if not re.search("|".join(NOTHING), each)]


def test_an_inventory_without_the_group_brings_nothing_of_it(host):
    assert host.run("ls -d /etc/prometheus /etc/prometheus-credentials /usr/bin/prometheus*").stdout == ""
    assert host.check_output("ls /etc/systemd/system").find("prometheus") == -1


@pytest.mark.long
def test_they_run_and_start_at_boot(watched):
    for name in UNITS:
        assert watched.host.service(f"{name}.service").is_running, name
        assert watched.host.service(f"{name}.service").is_enabled, name


@pytest.mark.long
def test_they_listen_on_the_loopback_alone(watched):
    lines = watched.sudo("ss -Hltnp").splitlines()
    places = {line.split()[3] for line in lines if "prometheus" in line or "alertmanager" in line}
    assert {place.rsplit(":", 1)[0] for place in places} == {"127.0.0.1"}
    assert {"127.0.0.1:9090", "127.0.0.1:9093", "127.0.0.1:9115"} <= places


@pytest.mark.long
def test_a_tunnel_may_lead_to_them_and_to_nothing_else(watched):
    said = watched.sudo("sshd -T").splitlines()
    assert "allowtcpforwarding local" in said
    assert "permitopen 127.0.0.1:9090 127.0.0.1:9093" in said


@pytest.mark.long
@pytest.mark.parametrize("unit", UNITS)
def test_each_is_shut_off_from_what_it_does_not_need(watched, unit):
    measured = watched.sudo(f"systemd-analyze security --no-pager {unit}.service | tail -1")
    exposure = float(measured.rsplit(":", 1)[1].split()[0])
    assert exposure <= 2.0, measured


@pytest.mark.long
def test_secrets_are_encrypted_and_in_no_settings(watched):
    # Not on the command line: sudo writes that into the journal.
    look = "grep -rlFf - /etc /var/lib/prometheus /var/log || [ $? = 1 ]"
    assert watched.sudo(look, stdin=f"{TOKEN}\n".encode()) == ""
    file = watched.host.file("/etc/prometheus-credentials/webhook_token")
    assert (file.user, file.mode) == ("root", 0o600)


@pytest.mark.long
@pytest.mark.parametrize(
    "expression",
    [
        "releasectl_maintenance == 0",
        "flask_ops_in_flight_limit > 0",
        # Both queues of the app, empty or as good as.
        "count(app:queue_tasks:max < 100) == 2",
        "count(app:queue_oldest_age_seconds:max < 60) == 2",
        "count(sum by (queue) (flask_ops_task_wait_seconds_count > 0)) >= 1",
    ],
)
def test_prometheus_has_the_figures_that_alerts_go_by(watched, expression):
    assert until(90, lambda: watching.query(watched, expression), 3), watched.sudo(
        "curl -sS http://127.0.0.1:9180/metrics | grep -E 'flask_ops_(queue|in_flight|task_wait)'"
    )


@pytest.mark.long
def test_verify_finds_nothing_wrong(watched):
    watched.play("verify").ok()


@pytest.mark.long
def test_pages_tell_what_the_document_names_and_no_more(watched):
    document = (PROJECT_DIR / "docs/prometheus.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \| (counter|gauge|histogram) \|", document, re.MULTILINE))
    pages = [
        watched.sudo(f"curl -sS http://127.0.0.1:9180{way}/metrics") for way in ("", "/releasectl", "/tls")
    ]
    pages.append(watched.sudo("cat /var/lib/prometheus/node-exporter/log-counts.prom"))
    told = set(re.findall(r"^# TYPE (\w+) (\w+)$", "".join(pages), re.MULTILINE))
    assert len(told & named) > 15
    assert told - named <= {("flask_exporter_info", "gauge")}


@pytest.fixture(scope="module")
def used(watched):
    """Return the host once each console has data for all its figures, under light load."""
    names = [f"consoles/{name}?app={watched.app}" for name in consoles.NAMES]

    def without_data() -> list[str]:
        for _ in range(5):
            watched.web.get("/")
        watched.sender.send(f"light-load-{time.time()}")
        read = watching.pages(watched, names)
        assert {answer.status for answer in read} == {200}, read
        return [each for answer in read for each in consoles.Page(answer.text).without_data]

    assert until(PATIENCE_SECONDS, lambda: not without_data(), 3), without_data()
    return watched


@pytest.mark.long
def test_every_expression_of_a_console_has_data_under_light_load(used):
    with watching.query_log(used) as log:

        def asked() -> set[str]:
            watching.pages(used, [f"consoles/{name}?app={used.app}" for name in consoles.NAMES])
            return set().union(*consoles.asked(log()).values())

        assert until(30, asked, 1)
        expressions = sorted(asked())
    assert unexplained(watching.empty(used, expressions)) == []
    assert unexplained(consoles.never_asked(expressions)) == []


@pytest.mark.long
@pytest.mark.parametrize("name", dashboards.NAMES)
def test_every_expression_of_a_dashboard_has_data_under_light_load(used, name):
    expressions = dashboards.expressions(name, used.app)
    assert until(60, lambda: not unexplained(watching.empty(used, expressions)), 5), unexplained(
        watching.empty(used, expressions)
    )
