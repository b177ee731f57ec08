"""RabbitMQ: on the loopback alone, and each app shut into its own vhost."""

from __future__ import annotations

import json
import re

import pytest
from testbed import brokers
from testbed.brokers import CREDENTIALS_DIR, SECOND

pytestmark = pytest.mark.long

NODE_PORTS = {"4369": "epmd", "5672": "AMQP", "25672": "Erlang's distribution"}


@pytest.fixture
def host(broker):
    return broker.host


@pytest.fixture
def apps(broker):
    return [broker.app, SECOND]


def ask(host, words):
    return json.loads(host.check_output(f"rabbitmqctl --quiet --formatter json {words}"))


def addresses(listing):
    """Return the addresses of ss's lines, those of the hosts' own sshd left out."""
    found = re.findall(r"^LISTEN +\d+ +\d+ +(\S+):(\d+) ", listing, re.MULTILINE)
    return {port: address for address, port in found if port != "22"}


def test_runs_and_starts_at_boot(host):
    for name in ("rabbitmq-server.service", "epmd.socket"):
        assert host.service(name).is_running, name
        assert host.service(name).is_enabled, name


def test_listens_on_the_loopback_alone(host):
    found = addresses(host.check_output("ss -Hltn"))
    assert found == dict.fromkeys(NODE_PORTS, "127.0.0.1")


def test_so_does_rabbitmqctl_while_it_runs(host):
    # The server looks, while the command that asked it to is still there with a port of its own.
    seen = host.check_output("rabbitmqctl eval 'io:format(os:cmd(\"ss -Hltn\")).'")
    found = addresses(seen)
    assert len(found) == len(NODE_PORTS) + 1, seen
    assert set(found.values()) == {"127.0.0.1"}, seen


def test_there_are_the_apps_users_and_no_guest(host, apps):
    assert {each["user"]: each["tags"] for each in ask(host, "list_users")} == {app: [] for app in apps}


def test_there_are_the_apps_vhosts_and_none_for_everybody(host, apps):
    assert {each["name"] for each in ask(host, "list_vhosts name")} == set(apps)


def test_each_user_has_rights_in_its_own_vhost_alone(host, apps):
    for app in apps:
        rights = ask(host, f"list_user_permissions {app}")
        assert rights == [{"vhost": app, "configure": ".*", "write": ".*", "read": ".*"}], app


def test_each_app_is_let_into_its_own_vhost_alone(broker, apps):
    said = {(user, vhost): brokers.sign_in(broker, user, vhost) for user in apps for vhost in apps}
    # 530 is "not allowed".
    assert said == {(user, vhost): "open" if user == vhost else "530" for user in apps for vhost in apps}


def test_other_passwords_are_refused(broker):
    # 403 is "access refused".
    assert brokers.sign_in(broker, broker.app, broker.app, password_of=SECOND) == "403"


def test_passwords_are_for_root_alone(host, apps):
    folder = host.file(CREDENTIALS_DIR)
    assert (folder.user, folder.mode) == ("root", 0o700)
    assert sorted(folder.listdir()) == sorted(apps)
    for app in apps:
        file = host.file(f"{CREDENTIALS_DIR}/{app}")
        assert (file.user, file.group, file.mode, file.size) == ("root", "root", 0o600, 40), app


def test_a_password_the_inventory_gives_is_the_one_in_use(broker, host):
    given = (broker.state_dir / f"secrets/{SECOND}_broker_password").read_text().strip()
    assert host.file(f"{CREDENTIALS_DIR}/{SECOND}").content_string == given


@pytest.mark.parametrize("place", ["the journal", "files", "processes"])
def test_passwords_are_in_no_other_place(host, apps, place):
    shown = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n'"
    look = {
        "the journal": "journalctl --no-pager --output=export | grep -acFf {}",
        # What RabbitMQ stores is salted and hashed.
        "files": "grep -raclFf {} /etc /var/log /var/lib/rabbitmq --exclude-dir=rabbitmq-credentials",
        "processes": f"{shown} | grep -acFf {{}}",
    }[place]
    for app in apps:
        found = host.run(look.format(f"{CREDENTIALS_DIR}/{app}")).stdout.strip()
        assert found in ("", "0"), (app, found)


def test_settings_are_in_effect(host):
    status = ask(host, "status")
    assert status["vm_memory_high_watermark_limit"] == 512_000_000
    assert status["disk_free_limit"] == 1_000_000_000
    assert status["alarms"] == []
    assert status["active_plugins"] == []


def test_tasks_may_be_held_as_long_as_declared(host):
    said = host.check_output("rabbitmqctl eval 'application:get_env(rabbit, consumer_timeout).'")
    assert said == "{ok,1800000}"


def test_logs_to_the_journal_and_nowhere_else(host):
    assert "Server startup complete" in host.check_output("journalctl --no-pager -t rabbitmq")
    assert host.check_output("find /var/log/rabbitmq -type f -size +0") == ""


@pytest.mark.parametrize("user", ["nobody", "admin"])
def test_other_accounts_do_not_command_it(host, user):
    assert host.run(f"sudo -n -u {user} rabbitmqctl list_users").rc != 0
    cookie = host.file("/var/lib/rabbitmq/.erlang.cookie")
    assert (cookie.user, cookie.mode) == ("rabbitmq", 0o400)
    # Erlang's own would be twenty capitals out of a clock.
    assert len(cookie.content_string.strip()) > 40


def test_settings_on_disk_belong_to_root(host):
    for name in ("rabbitmq.conf", "rabbitmq-env.conf", "definitions.json"):
        file = host.file(f"/etc/rabbitmq/{name}")
        assert (file.user, file.group, file.mode) == ("root", "rabbitmq", 0o640), name
