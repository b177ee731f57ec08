"""PostgreSQL and Redis stopped, hung and refusing: the app stays alive, says so, and comes back by itself."""

from __future__ import annotations

import secrets

import further_apps
import outages
import pytest
from target_host.shell import PROJECT_DIR
from testbed import durations

pytestmark = pytest.mark.long

NAME = "inbox-checked"
INVENTORY = f"""
app_name: {NAME}
app_server_names: [{NAME}.localhost]
app_wsgi: inbox.wsgi:app
app_extra_packages: [redis]
app_migrate_command: flask --app inbox.wsgi db upgrade
app_checks: [{{check: redis}}]
app_environment: {{STORAGE_URL: file:///srv/{NAME}/shared/files}}
"""
# The app declares the first itself, the inventory the second.
CHECKS = {"database": "postgresql", "redis": "redis"}
SQL = "psql --quiet --no-psqlrc --dbname=postgres --command"
REDIS = "redis-cli -s /run/redis"
# How each is taken away and given back, as root.
OUTAGES = {
    ("database", "stopped"): (
        "systemctl stop 'postgresql@*-main.service'",
        "systemctl start postgresql@$(ls /etc/postgresql)-main",
    ),
    ("database", "hung"): (
        "systemctl kill --signal=STOP 'postgresql@*-main.service'",
        "systemctl kill --signal=CONT 'postgresql@*-main.service'",
    ),
    ("database", "refusing"): (
        f"sudo -u postgres {SQL} 'alter database \"{NAME}\" allow_connections false' && "
        f"sudo -u postgres {SQL} "
        f"\"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{NAME}'\" >/dev/null",
        f"sudo -u postgres {SQL} 'alter database \"{NAME}\" allow_connections true'",
    ),
    ("redis", "stopped"): ("systemctl stop redis-server.service", "systemctl start redis-server.service"),
    ("redis", "hung"): (
        "systemctl kill --signal=STOP redis-server.service",
        "systemctl kill --signal=CONT redis-server.service",
    ),
    # Nobody may connect, and those who are get cut.
    ("redis", "refusing"): (
        f"mv /run/redis/redis.sock /run/redis/away && {REDIS}/away client kill type normal skipme yes",
        "mv /run/redis/away /run/redis/redis.sock",
    ),
}


@pytest.fixture(scope="module")
def checked(spare, tmp_path_factory):
    """Provision the sample app a second time, with Redis as something it needs."""
    more = {
        "app_source": str(PROJECT_DIR / "app_skeleton/inbox"),
        "app_secrets": {"secret_key": secrets.token_hex(32)},
    }
    app = further_apps.declare(spare, INVENTORY, more, groups=("app_servers", "databases", "brokers"))
    app.provision()
    return app


@pytest.fixture(scope="module", params=OUTAGES, ids=lambda key: "-".join(key))
def outage(request, checked):
    """Take one dependency away in one manner and return what was seen."""
    name, manner = request.param
    seen = outages.outage(checked, *OUTAGES[request.param])
    seen.name, seen.manner = name, manner
    words = f"{checked.site.name} {CHECKS[name]} {manner}"
    for what, seconds in (
        ("until it shows in /readyz", seen.seconds_until_noticed),
        ("slowest /readyz", max(asked.seconds for asked in seen.during)),
        ("slowest /livez", seen.livez.slowest_seconds),
        ("from its return until ready", seen.seconds_until_ready),
    ):
        durations.record(f"{words}: {what}", seconds)
    return seen


def test_app_is_alive_throughout(outage):
    assert set(outage.livez.statuses) == {200}, outage.words
    assert outage.livez.statuses[200] > 20, outage.words


def test_readiness_is_answered_within_two_seconds(outage):
    assert max(asked.seconds for asked in outage.during) < 2.0, outage.words


def test_outage_shows_once_the_answer_of_before_is_a_second_old(outage):
    # A half more than the cache's second, for a check that began just before the outage.
    late = [asked.status for asked in outage.during if asked.began > outage.began + 1.5]
    assert late, outage.words
    assert set(late) == {503}, outage.words


def test_details_name_the_check_its_state_and_its_duration(outage):
    checks = {check["id"]: check for check in outage.details["checks"]}
    assert set(checks) == set(CHECKS), outage.details
    broken = checks.pop(outage.name)
    assert broken["state"] == ("timeout" if outage.manner == "hung" else "failed"), outage.details
    assert 0 <= broken["duration_ms"] <= 2000, outage.details
    assert broken["error"], outage.details
    (other,) = checks.values()
    assert other["state"] == "ok", outage.details


def test_public_is_told_no_details(outage):
    bodies = [asked.answer.json() for asked in outage.during if asked.status == 503]
    assert bodies, outage.words
    assert {frozenset(body) for body in bodies} == {frozenset({"status", "release"})}
    assert {body["status"] for body in bodies} == {"not_ready"}


def test_no_process_is_killed_or_restarted(outage):
    assert len(outage.processes[0]) >= 3, outage.processes
    assert outage.processes[1] == outage.processes[0], outage.words


def test_app_is_ready_within_five_seconds_of_the_return(outage):
    assert outage.seconds_until_ready < 5.0, outage.words
