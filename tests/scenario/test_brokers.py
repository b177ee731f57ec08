"""A RabbitMQ that two apps share: what somebody changed is put back, and one app goes without the other."""

from __future__ import annotations

import json
import re

import pytest
from testbed import brokers
from testbed.brokers import CREDENTIALS_DIR, SECOND

pytestmark = pytest.mark.long

ANYTHING = "'.*' '.*' '.*'"
TAMPERINGS = [
    "printf guest | rabbitmqctl add_user guest",
    f"rabbitmqctl set_permissions -p APP guest {ANYTHING}",
    f"rabbitmqctl set_permissions -p {SECOND} APP {ANYTHING}",
    "rabbitmqctl set_user_tags APP administrator",
    "printf another | rabbitmqctl change_password APP",
    "echo 'listeners.tcp.all = 0.0.0.0:5673' >> /etc/rabbitmq/rabbitmq.conf",
    "rm /etc/systemd/system/epmd.socket.d/50-loopback.conf",
    "systemctl daemon-reload",
    "systemctl stop rabbitmq-server.service epmd.service",
    "systemctl restart epmd.socket",
    "systemctl start rabbitmq-server.service",
]


def ask(broker, words):
    return json.loads(broker.sudo(f"rabbitmqctl --quiet --formatter json {words} </dev/null"))


def names(broker):
    users = {each["user"] for each in ask(broker, "list_users")}
    return users, {each["name"] for each in ask(broker, "list_vhosts name")}


def strangers(broker):
    """Return who else than the loopback is listened to, by the host's programs but sshd."""
    found = re.findall(r"^LISTEN +\d+ +\d+ +(\S+):(\d+) ", broker.sudo("ss -Hltn"), re.MULTILINE)
    return [(address, port) for address, port in found if address != "127.0.0.1" and port != "22"]


def verify(broker, label):
    return broker.play("verify", "--tags", "rabbitmq", label=label)


@pytest.fixture(scope="module")
def repaired(broker):
    """Spoil everything at once, see that it was spoilt, and run site.yml."""
    for tampering in TAMPERINGS:
        broker.sudo(tampering.replace("APP", broker.app), timeout_seconds=120)
    assert {port for _address, port in strangers(broker)} == {"4369", "5673"}
    assert brokers.sign_in(broker, broker.app, broker.app) == "403"
    spoilt = verify(broker, "verify of RabbitMQ after tampering")
    assert spoilt.returncode == 2, spoilt.tail()
    return brokers.provision(broker, None, "RabbitMQ after tampering").ok()


def test_what_was_changed_is_put_back(broker, repaired):
    assert names(broker) == ({broker.app, SECOND}, {broker.app, SECOND}), repaired.changed_tasks
    assert strangers(broker) == []
    assert ask(broker, f"list_user_permissions {broker.app}") == [
        {"vhost": broker.app, "configure": ".*", "write": ".*", "read": ".*"}
    ]
    assert {each["user"]: each["tags"] for each in ask(broker, "list_users")}[broker.app] == []


def test_both_apps_sign_in_with_the_passwords_they_had(broker, repaired):
    for app in (broker.app, SECOND):
        assert brokers.sign_in(broker, app, app) == "open", (app, repaired.changed_tasks)


@pytest.fixture(scope="module")
def settled(broker, repaired):
    before = broker.sudo("systemctl show --property=ExecMainStartTimestampMonotonic rabbitmq-server.service")
    plays = [
        brokers.provision(broker, inventory, f"RabbitMQ again, {label} app").ok()
        for inventory, label in ((None, "first"), (brokers.second(broker), "second"))
    ]
    after = broker.sudo("systemctl show --property=ExecMainStartTimestampMonotonic rabbitmq-server.service")
    return plays, before == after


def test_each_inventory_then_finds_nothing_to_change(settled):
    plays, same_process = settled
    assert [play.changed_tasks for play in plays] == [[], []]
    assert same_process


def test_verify_finds_what_is_left_to_find(broker, settled):
    found = verify(broker, "verify of RabbitMQ").ok()
    assert found.changed == 0
    # Somebody may have done this on purpose.
    broker.sudo(f"rabbitmqctl set_permissions -p {broker.app} {SECOND} {ANYTHING}")
    reported = verify(broker, "verify of a vhost with a second user").ok()
    broker.sudo(f"rabbitmqctl clear_permissions -p {broker.app} {SECOND}")
    assert f"with rights in {broker.app}:' - {SECOND}" in reported.words, reported.tail()


SPOILT = {
    "a guest": (
        "printf guest | rabbitmqctl add_user guest",
        "rabbitmqctl delete_user guest",
        "guest must not be among them",
    ),
    "a right elsewhere": (
        f"rabbitmqctl set_permissions -p {SECOND} APP {ANYTHING}",
        f"rabbitmqctl clear_permissions -p {SECOND} APP",
        f"alone (now: APP, {SECOND})",
    ),
    "a port for everybody": (
        "rabbitmqctl eval 'rabbit_networking:start_tcp_listener({\"0.0.0.0\", 5673, auto}, 1).'",
        "rabbitmqctl eval 'rabbit_networking:stop_tcp_listener({\"0.0.0.0\", 5673, auto}).'",
        "0.0.0.0:5673",
    ),
}


@pytest.mark.parametrize("fault", SPOILT)
def test_verify_fails_on_each_fault_alone(broker, settled, fault):
    spoil, mend, words = (text.replace("APP", broker.app) for text in SPOILT[fault])
    broker.sudo(spoil)
    try:
        play = verify(broker, f"verify with {fault}")
        assert play.returncode == 2, play.tail()
        assert words in play.words
    finally:
        broker.sudo(mend)


@pytest.fixture
def stopped(broker, settled):
    broker.sudo("systemctl stop rabbitmq-server.service", timeout_seconds=120)
    yield
    broker.sudo("systemctl start rabbitmq-server.service", timeout_seconds=120)


def test_dry_run_and_removal_do_not_fail_on_a_server_that_is_stopped(broker, stopped):
    broker.play("site", "--tags", "rabbitmq", "--check", label="dry run, RabbitMQ stopped").ok()
    play = remove_second(broker, "remove.yml of the second app, RabbitMQ stopped")
    assert f"its vhost {SECOND} and user {SECOND} are kept" in play.words, play.tail()
    assert SECOND in broker.sudo(f"ls {CREDENTIALS_DIR}").split()


def remove_second(broker, label):
    extra = {"app_remove_confirmed": SECOND}
    return broker.play("remove", inventory=brokers.second(broker), extra=extra, label=label).ok()


@pytest.fixture(scope="module")
def removed(broker, settled):
    return remove_second(broker, "remove.yml of the second app")


def test_removing_one_app_leaves_the_other(broker, removed):
    assert names(broker) == ({broker.app}, {broker.app})
    assert broker.sudo(f"ls {CREDENTIALS_DIR}").split() == [broker.app]
    assert brokers.sign_in(broker, broker.app, broker.app) == "open"


def test_removing_says_how_to_look_at_what_redis_keeps(removed):
    assert "sudo redis-cli -s /run/redis/redis.sock info keyspace" in removed.words


def test_removed_app_comes_back(broker, removed):
    brokers.provision(broker, brokers.second(broker), "RabbitMQ of the second app again").ok()
    assert brokers.sign_in(broker, SECOND, SECOND) == "open"
