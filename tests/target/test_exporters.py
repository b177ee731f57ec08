"""What a host tells of itself, and to whom."""

from __future__ import annotations

import re
import time

import pytest

# Longer than nginx_upstream_keepalive_timeout.
KEPT_SECONDS = 3
KINDS = {"node": 9100, "nginx": 9113, "postgres": 9187, "redis": 9121}


def test_an_inventory_without_the_group_brings_none(host):
    assert host.run("ls /usr/bin/prometheus-*").stdout == ""
    assert host.run("getent passwd postgres-exporter prometheus").stdout == ""


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_each_runs_at_boot_and_listens_to_its_own_host_alone(watched, kind):
    service = watched.host.service(f"prometheus-{kind}-exporter.service")
    assert service.is_running
    assert service.is_enabled
    places = [line.split()[3] for line in watched.sudo(f"ss -Hltn 'sport = {KINDS[kind]}'").splitlines()]
    assert places == [f"127.0.0.1:{KINDS[kind]}"]


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_each_is_shut_off_from_what_it_does_not_need(watched, kind):
    unit = f"prometheus-{kind}-exporter.service"
    measured = watched.sudo(f"systemd-analyze security --no-pager {unit} | tail -1")
    assert float(measured.rsplit(":", 1)[1].split()[0]) <= 2.0, measured


@pytest.mark.long
def test_postgresql_lets_its_exporter_read_statistics_and_nothing_else(watched):
    asked = (
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolpassword IS NULL, "
        "ARRAY(SELECT b.rolname::text FROM pg_auth_members m JOIN pg_roles b ON b.oid = m.roleid"
        " WHERE m.member = a.oid) "
        "FROM pg_authid a WHERE rolname = 'postgres-exporter'"
    )
    assert watched.sudo(f'psql -At -c "{asked}"', user="postgres").strip() == "f|f|f|t|{pg_monitor}"
    refused = watched.host.run(f"sudo -u postgres-exporter psql -d {watched.app} -c 'SELECT 1'")
    assert refused.rc != 0, refused.stdout


@pytest.mark.long
def test_its_account_alone_is_let_in(watched):
    assert watched.host.run("sudo -u prometheus psql -d postgres -U postgres-exporter -c 'SELECT 1'").rc != 0
    assert (
        watched.host.run("sudo -u prometheus redis-cli -s /run/redis/redis.sock ping").stdout.strip()
        != "PONG"
    )


@pytest.mark.long
def test_figures_are_told(watched):
    watched.sudo("log-counts")
    wanted = {
        "node": 'node_systemd_unit_state{name="nginx.service",state="active"',
        "nginx": "nginx_up 1",
        "postgres": "pg_up 1",
        "redis": "redis_up 1",
    }
    for kind, line in wanted.items():
        assert line in watched.sudo(f"curl -sS http://127.0.0.1:{KINDS[kind]}/metrics"), kind


def responses(site) -> dict[tuple[str, str], int]:
    """Return what node exporter tells of the site's answers by origin and status, counted up to now."""
    site.sudo("log-counts")
    told = site.sudo("curl -sS http://127.0.0.1:9100/metrics")
    form = rf'^nginx_http_responses_total{{origin="(\w+)",site="{site.app}",status="(\w+)"}} (\S+)$'
    return {(who, status): int(float(count)) for who, status, count in re.findall(form, told, re.MULTILINE)}


@pytest.mark.long
def test_answers_of_nginx_alone_are_told_from_the_apps_also_over_a_rotation(watched):
    before = responses(watched)
    assert {("edge", status) for status in ("500", "502", "503", "504")} <= before.keys()
    link, away = f"/srv/{watched.app}/upstream.sock", f"/srv/{watched.app}/upstream.away"
    assert watched.web.get("/livez").status == 200
    watched.sudo(f"mv -T {link} {away}")
    try:
        # nginx has connections to the app that are still open.
        time.sleep(KEPT_SECONDS)
        statuses = [watched.web.get("/nobody-answers").status for _ in range(2)]
        watched.sudo("logrotate --force /etc/logrotate.d/nginx")
        statuses.append(watched.web.get("/nobody-answers").status)
    finally:
        watched.sudo(f"mv -T {away} {link}")
    assert statuses == [502] * 3
    after = responses(watched)
    # Prometheus' probe met it too.
    lines = watched.sudo(f"zcat -f /var/log/nginx/{watched.app}.access.log* | grep -c '\"status\":502,'")
    assert after["edge", "502"] == int(lines) >= before["edge", "502"] + 3
    assert after["app", "200"] > before["app", "200"]
    assert after.get(("app", "502"), 0) == before.get(("app", "502"), 0)


@pytest.mark.long
def test_counting_begins_at_boot_and_says_nothing_of_itself(watched):
    timer = watched.host.service("log-counts.timer")
    assert timer.is_running
    assert timer.is_enabled
    said = "journalctl --quiet --since=-5min --unit=log-counts.service"
    watched.sudo("systemctl start log-counts.service")
    assert watched.sudo(said).splitlines() == []
    # But of a trouble it does, and goes on counting what it can.
    state = "/var/lib/log-counts/state.json"
    cursor = """s/"journal": {/"journal": {"cursor": "no cursor", /; s/, "cursor": "s=[^"]*"//"""
    watched.sudo(f"cp -p {state} {state}.kept && sed -i '{cursor}' {state}")
    try:
        assert watched.host.run("systemctl start log-counts.service").rc != 0
        assert "log-counts: the journal: " in watched.sudo(said)
    finally:
        watched.sudo(f"mv {state}.kept {state} && systemctl start log-counts.service")
    measured = watched.sudo("systemd-analyze security --no-pager log-counts.service | tail -1")
    assert float(measured.rsplit(":", 1)[1].split()[0]) <= 2.0, measured
