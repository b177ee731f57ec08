"""Prometheus, Alertmanager and Blackbox on a host of the group monitoring, and nothing of them elsewhere."""

from __future__ import annotations

import pytest
from testbed import watching
from testbed.sites import until
from testbed.watching import TOKEN

UNITS = ("prometheus", "prometheus-alertmanager", "prometheus-blackbox-exporter")


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
