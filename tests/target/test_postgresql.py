"""The database: reached over its local socket, by the app's own account, which reaches nothing else."""

from __future__ import annotations

import pytest


def psql(host, user, database, query="select 1", options=""):
    return host.run(f"sudo -n -u {user} psql --no-psqlrc -tA {options} -d '{database}' -c \"{query}\"")


def test_runs_and_starts_at_boot(host):
    assert host.service("postgresql").is_enabled
    assert host.check_output("systemctl is-active 'postgresql@*-main.service'") == "active"


def test_listens_on_no_tcp_port(host):
    assert psql(host, "postgres", "postgres", "show listen_addresses").stdout.strip() == ""
    assert "postgres" not in host.check_output("ss -Htlnp")


def test_runs_with_the_settings_on_disk(host):
    pending = "select name from pg_settings where pending_restart"
    assert psql(host, "postgres", "postgres", pending).stdout == ""
    asked = (
        "select setting from pg_settings where name in ('max_connections', 'log_lock_waits') order by name"
    )
    assert psql(host, "postgres", "postgres", asked).stdout.split() == ["on", "120"]


def test_apps_account_reaches_its_own_database(host, app):
    answer = psql(host, app, app, "select current_user, current_database()")
    assert answer.stdout.strip() == f"{app}|{app}", answer


def test_apps_account_reaches_no_other_database(host, app):
    listed = psql(
        host, "postgres", "postgres", "select datname from pg_database where datallowconn"
    ).stdout.split()
    reached = [name for name in listed if name != app and psql(host, app, name).rc == 0]
    # Debian's own two hold nothing of anybody's, and every role may look at them.
    assert set(reached) <= {"postgres", "template1"}, reached


@pytest.mark.parametrize("user", ["nobody", "www-data", "admin"])
def test_other_accounts_of_the_host_are_let_in_nowhere(host, app, user):
    for options in ("", f"-U {app}", "-U postgres"):
        for database in (app, "postgres"):
            answer = psql(host, user, database, options=options)
            assert answer.rc != 0, (user, options, database, answer.stdout)


def test_apps_role_may_do_nothing_to_the_cluster(host, app):
    asked = (
        "select rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolpassword is null "
        f"from pg_authid where rolname = '{app}'"
    )
    assert psql(host, "postgres", "postgres", asked).stdout.strip() == "f|f|f|f|f|t"


def test_database_is_utf8_and_owned_by_the_app(host, app):
    asked = (
        "select pg_encoding_to_char(encoding), pg_get_userbyid(datdba), "
        f"has_database_privilege('public', oid, 'connect') from pg_database where datname = '{app}'"
    )
    assert psql(host, "postgres", "postgres", asked).stdout.strip() == f"UTF8|{app}|f"
