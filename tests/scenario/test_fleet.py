"""Three app hosts, their database and Redis on a fourth: one app, whichever host is asked."""

from __future__ import annotations

import json
import re
import shlex
from types import SimpleNamespace

import planting
import pytest
from observing import failed_units, status_of
from testbed import durations, fleets
from testbed.sites import until

# Runs on an app host, on the release's own Python, with psycopg as its wheel brings it; the password comes by
# standard input.
DATABASE_CLIENT = """
import sys, psycopg
asked = dict(pair.split("=", 1) for pair in sys.argv[2:])
asked |= {"password": sys.stdin.readline().strip(), "connect_timeout": 5}
try:
    with psycopg.connect(sys.argv[1], **asked) as held:
        told = held.execute("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        print("in:", *told)
except psycopg.OperationalError as error:
    print("refused:", " ".join(str(error).split()))
"""
REDIS_CLIENT = """
import sys, redis
password = sys.stdin.readline().strip() or None
try:
    print("in:", redis.Redis.from_url(sys.argv[1], password=password, socket_timeout=5).ping())
except (redis.RedisError, OSError) as error:
    print("refused:", type(error).__name__, error)
"""
# From an address of its own: Redis lets in by address before it hears a word.
CONNECT = """
import socket, sys
source, address, port = sys.argv[1:]
try:
    socket.create_connection((address, int(port)), 5, source_address=(source, 0)).close()
    print("open")
except OSError as error:
    print(type(error).__name__)
"""
# From an address of its own, as far as PostgreSQL's first word: TLS, then who one is.
STARTUP = """
import socket, ssl, struct, sys
source, address, app = sys.argv[1:]
with socket.create_connection((address, 5432), 5, source_address=(source, 0)) as plain:
    plain.sendall(struct.pack("!II", 8, 80877103))
    assert plain.recv(1) == b"S"
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    with trust.wrap_socket(plain) as secure:
        words = b"".join(word.encode() + b"\\0" for word in ("user", app, "database", app)) + b"\\0"
        secure.sendall(struct.pack("!II", 8 + len(words), 196608) + words)
        print(secure.recv(1000).decode(errors="replace").replace("\\0", " "))
"""


def python(site, program, *arguments, stdin=""):
    """Run a program on the Python of the active release and return what it said."""
    command = shlex.join([f"/srv/{site.app}/current/venv/bin/python", "-c", program, *arguments])
    return site.sudo(command, stdin=stdin.encode()).strip()


def environment_of(site):
    """Return what the app's units are told, as the environment file says it."""
    lines = site.sudo(f"cat /etc/{site.app}/app.env").splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    return {name: json.loads(value) for name, value in pairs}


@pytest.fixture(scope="module")
def passwords(fleet):
    """The passwords that were made on the host of the database and Redis."""
    read = {
        "database_password": f"/etc/postgresql-credentials/{fleet.app}",
        "redis_password": f"/etc/redis-credentials/{fleet.app}",
        "root's for Redis": "/etc/redis-credentials/default",
    }
    return {name: fleet.data.sudo(f"cat {path}") for name, path in read.items()}


def test_every_host_serves_the_same_release(fleet):
    releases = {site.web.release() for site in fleet.apps}
    assert len(releases) == 1
    assert {site.web.get("/readyz").status for site in fleet.apps} == {200}


def test_webhook_taken_by_one_host_is_read_on_another(fleet):
    first, second, third = fleet.apps
    assert first.sender.send("fleet-1").status == 202
    # A token of one host is good on the others: the same secrets, and one Redis that knows which are used up.
    bearer = second.sender.bearer()
    for site in (second, third):
        listed = site.web.get("/api/v1/messages", headers=bearer)
        assert listed.status == 200, listed.text
        assert "fleet-1" in listed.text, listed.text[:2000]


def test_message_is_processed_by_whichever_worker_is_free(fleet):
    sent = [f"fleet-work-{number}" for number in range(12)]
    for number, name in enumerate(sent):
        assert fleet.apps[number % 3].sender.send(name).status == 202
    asked = "SELECT count(*) FROM message WHERE status = 'done' AND delivery_id LIKE 'fleet-work-%'"
    done = f"psql -tA -d {fleet.app} -c {shlex.quote(asked)}"
    assert until(30, lambda: int(fleet.data.sudo(done, user="postgres")) == len(sent)), fleet.data.sudo(
        f"psql -d {fleet.app} -c 'SELECT delivery_id, status FROM message'", user="postgres"
    )


def ticking(fleet):
    """Return the addresses of the hosts whose beat holds the lock to tick."""
    asked = (
        "SELECT client_addr FROM pg_locks JOIN pg_stat_activity USING (pid) "
        "WHERE locktype = 'advisory' AND granted AND application_name LIKE '%-beat'"
    )
    return fleet.data.sudo(f'psql -tA -d {fleet.app} -c "{asked}"', user="postgres").split()


def test_each_host_has_a_beat_and_one_of_them_ticks(fleet):
    for site in fleet.apps:
        unit = f"{site.app}-beat@{status_of(site)['active']}.service"
        assert site.sudo(f"systemctl is-active {unit}").strip() == "active"
    assert until(15, lambda: len(ticking(fleet)) == 1), ticking(fleet)


def test_connections_of_all_hosts_fit_the_database(fleet):
    shown = fleet.data.sudo("psql -tAc 'SHOW max_connections'", user="postgres").strip()
    assert int(shown) == fleets.MAX_CONNECTIONS
    play = fleet.play(
        "preflight", extra={"postgresql_max_connections": 60}, label="too few connections for three"
    )
    assert play.returncode == 2
    assert "on all app servers together, may hold 96 connections" in play.words, play.tail()


def test_app_signs_in_over_tls_with_the_password_that_was_made(fleet, passwords):
    site = fleet.apps[0]
    url = environment_of(site)["DATABASE_URL"].replace("+psycopg", "", 1)
    assert python(site, DATABASE_CLIENT, url, stdin=passwords["database_password"]) == "in: True TLSv1.3"
    url = environment_of(site)["REDIS_URL"]
    assert python(site, REDIS_CLIENT, url, stdin=passwords["redis_password"]) == "in: True"


def test_database_refuses_a_wrong_password_and_plain_text(fleet, passwords):
    site = fleet.apps[0]
    url = environment_of(site)["DATABASE_URL"].replace("+psycopg", "", 1)
    assert "password authentication failed" in python(site, DATABASE_CLIENT, url, stdin="wrong")
    plain = python(
        site,
        DATABASE_CLIENT,
        url,
        "sslmode=disable",
        "channel_binding=disable",
        stdin=passwords["database_password"],
    )
    assert "refused: " in plain
    assert "no encryption" in plain


def test_database_lets_the_app_into_its_own_database_alone(fleet, passwords):
    site = fleet.apps[0]
    url = environment_of(site)["DATABASE_URL"].replace("+psycopg", "", 1)
    other = python(site, DATABASE_CLIENT, url, "dbname=postgres", stdin=passwords["database_password"])
    assert "no pg_hba.conf entry" in other


@pytest.mark.parametrize("password", ["wrong", ""])
def test_redis_refuses_a_wrong_password_and_none(fleet, password):
    said = python(fleet.apps[0], REDIS_CLIENT, environment_of(fleet.apps[0])["REDIS_URL"], stdin=password)
    assert re.match("refused: AuthenticationError", said), said


def test_redis_refuses_somebody_without_a_name(fleet):
    url = environment_of(fleet.apps[0])["REDIS_URL"].replace(f"{fleet.app}@", "", 1)
    assert "refused: AuthenticationError" in python(fleet.apps[0], REDIS_CLIENT, url)


def test_redis_refuses_plain_text(fleet, passwords):
    plain = environment_of(fleet.apps[0])["REDIS_URL"].replace("rediss://", "redis://", 1).partition("?")[0]
    said = python(fleet.apps[0], REDIS_CLIENT, plain, stdin=passwords["redis_password"])
    assert "refused: " in said


def test_redis_is_believed_by_its_own_certificate_alone(fleet, passwords):
    url = environment_of(fleet.apps[0])["REDIS_URL"].partition("?")[0]
    said = python(fleet.apps[0], REDIS_CLIENT, url, stdin=passwords["redis_password"])
    assert "CERTIFICATE_VERIFY_FAILED" in said


def test_app_may_do_nothing_to_the_redis_server(fleet):
    words = (
        "REDISCLI_AUTH=$(cat /etc/redis-credentials/inbox) redis-cli -s /run/redis/redis.sock --user inbox"
    )
    for command in (
        "config get dir",
        "acl list",
        "shutdown nosave",
        "replicaof 127.0.0.1 1",
    ):
        assert "NOPERM" in fleet.data.sudo(f"{words} {command} 2>&1 || true"), command


@pytest.fixture(scope="module")
def stranger(fleet):
    """Give an app host a second address, which is no app server's; return what connects from which."""
    site = fleet.apps[0]
    own, data = site.declaration.address, fleet.data.declaration.address
    address = f"{own.rpartition('.')[0]}.99"
    device = site.sudo("ip -o -4 route show to default | awk '{print $5}'").strip()
    site.sudo(f"ip address add {address}/24 dev {device}")
    yield SimpleNamespace(site=site, own=own, address=address, data=data)
    # Gone already where the host was restarted meanwhile.
    site.sudo(f"ip address del {address}/24 dev {device} || true")


def test_firewall_turns_strangers_away_from_the_data(stranger):
    for port in ("5432", "6379"):
        answers = {
            source: python(stranger.site, CONNECT, source, stranger.data, port)
            for source in (stranger.own, stranger.address)
        }
        assert answers == {stranger.own: "open", stranger.address: "ConnectionRefusedError"}, port


@pytest.fixture
def let_through(fleet, stranger):
    """Let the stranger through the firewall, to see what stands behind it."""
    fleet.data.sudo(f"nft insert rule inet firewall openings ip saddr {stranger.address} accept")
    yield
    fleet.data.sudo("systemctl reload firewall.service")


@pytest.mark.usefixtures("let_through")
def test_redis_is_open_to_app_servers_addresses_alone(stranger):
    answers = {
        source: python(stranger.site, CONNECT, source, stranger.data, "6379")
        for source in (stranger.own, stranger.address)
    }
    assert answers == {stranger.own: "open", stranger.address: "ConnectionRefusedError"}


@pytest.mark.usefixtures("let_through")
def test_database_is_open_to_app_servers_addresses_alone(stranger):
    said = {
        source: python(stranger.site, STARTUP, source, stranger.data, stranger.site.app)
        for source in (stranger.own, stranger.address)
    }
    assert "SCRAM-SHA-256-PLUS" in said[stranger.own]
    assert "no pg_hba.conf entry" in said[stranger.address]


def test_passwords_are_the_same_on_every_host_and_roots_alone(fleet, passwords):
    for site in fleet.apps:
        for name in ("database_password", "redis_password"):
            path = f"/etc/{site.app}/credentials.encrypted/{name}"
            assert site.sudo(f"systemd-creds decrypt --name=app_{name} {path} -") == passwords[name]
            assert site.sudo(f"stat --format='%U %a' {path}").split() == ["root", "600"]


def test_no_password_is_anywhere_it_does_not_belong(fleet, passwords):
    for site in fleet.apps:
        place = SimpleNamespace(site=site, name=site.app, active=status_of(site)["active"])
        assert planting.search(place, passwords) == []
    asked = {
        # Each stands in the log of a PostgreSQL that was provisioned, and in the journal of every host.
        "planted": {**passwords, "control": "postgres"},
        "roots": planting.ROOTS,
        "left_out": ["/etc/postgresql-credentials", "/etc/redis-credentials"],
        "commands": ["journalctl --sync; journalctl --no-pager --all --output=export"],
    }
    said = fleet.data.sudo(
        f"python3 -c '{planting.SEARCH}'", stdin=json.dumps(asked).encode(), timeout_seconds=120
    )
    found = json.loads(said)
    controlled = " ".join(place for place, name in found if name == "control")
    assert "journalctl" in controlled
    assert "/cmdline" in controlled
    assert [pair for pair in found if pair[1] != "control"] == []


@pytest.fixture(scope="module")
def again(fleet):
    """Run site.yml once more, with all the words Ansible has."""
    return fleet.play("site", "-vvv", "--diff", label="site.yml again").ok()


def test_second_run_changes_nothing(again):
    assert again.changed == 0, again.changed_tasks


def test_ansible_says_no_password_however_much_it_says(fleet, passwords, again):
    said = again.output + (fleet.first_play.output if fleet.first_play else "")
    assert "Read the passwords that were made on other hosts" in said
    assert [name for name, password in passwords.items() if password in said] == []


@pytest.mark.parametrize("playbook", ["verify", "status"])
def test_every_host_is_looked_at(fleet, playbook):
    play = fleet.play(playbook).ok()
    looked = fleets.APPS if playbook == "status" else (*fleets.APPS, fleets.DATA)
    assert all(re.search(rf"^{name} +: ok=[1-9]", play.output, re.MULTILINE) for name in looked), play.tail()


def test_verify_fails_where_somebody_opened_the_database(fleet):
    hba = "$(ls -d /etc/postgresql/*/main)/pg_hba.conf"
    line = f'hostssl "{fleet.app}" all 0.0.0.0/0 scram-sha-256'
    fleet.data.sudo(f"echo '{line}' >> {hba}")
    try:
        play = fleet.play("verify", "--tags", "postgresql", label="verify of an open database")
    finally:
        fleet.data.sudo(f"sed -i '$d' {hba}")
    assert play.returncode == 2
    assert "4 lines for inbox in pg_hba.conf where 3 are declared" in play.words, play.tail()


@pytest.fixture(scope="module")
def deployed(fleet, copied_app):
    """Deploy a changed copy of the app to all hosts; return what was seen."""
    before = {site.name: site.web.release() for site in fleet.apps}
    source = copied_app("src/inbox/wsgi.py", "The app as gunicorn", "The app, on several hosts, as gunicorn")
    play = fleet.play("deploy", extra={"app_source": str(source)}, label="deploy to three hosts").ok()
    durations.record(play.title, play.seconds)
    return SimpleNamespace(play=play, before=before)


def ledger(site):
    """Return the entries of a host's ledger, oldest first."""
    return [json.loads(line) for line in site.sudo(f"cat /srv/{site.app}/ledger.jsonl").splitlines()]


def test_deploy_leaves_all_hosts_on_the_same_new_release(fleet, deployed):
    after = {site.name: site.web.release() for site in fleet.apps}
    assert len(set(after.values())) == 1
    assert not set(after.values()) & set(deployed.before.values())


def test_deploy_migrates_once_at_most(fleet, deployed):
    """Not at all where the database has what the release needs."""
    release = fleet.apps[0].web.release()
    migrated = [
        site.name
        for site in fleet.apps
        for entry in ledger(site)
        if entry.get("command") == "migrate" and entry.get("release") == release
    ]
    assert len(migrated) <= 1, migrated


def test_one_beat_ticks_after_the_deploy(fleet, deployed):
    assert until(20, lambda: len(ticking(fleet)) == 1), ticking(fleet)


@pytest.fixture(scope="module")
def halved(fleet):
    """Take the host whose beat ticks off the network without a word; return what was seen meanwhile."""
    assert until(15, lambda: len(ticking(fleet)) == 1)
    (address,) = ticking(fleet)
    (gone,) = [site for site in fleet.apps if site.declaration.address == address]
    rest = [site for site in fleet.apps if site is not gone]
    gone.unplug()
    try:
        seen = SimpleNamespace(
            statuses=[site.web.get("/readyz").status for site in rest for _ in range(5)],
            taken=[site.sender.send(f"fleet-less-{site.name}").status for site in rest],
        )
    finally:
        gone.restart()
    seen.back = until(60, lambda: gone.web.get("/readyz").status == 200)
    return seen


def test_hosts_go_on_while_one_of_them_is_gone(halved):
    assert set(halved.statuses) == {200}
    assert set(halved.taken) == {202}


def test_host_that_was_gone_serves_again(fleet, halved):
    assert halved.back
    assert until(20, lambda: len(ticking(fleet)) == 1)
    assert [failed_units(site) for site in fleet.sites] == [""] * 4


def test_run_without_one_of_its_hosts_addresses_is_refused_before_anything_changes(fleet):
    play = fleet.play("site", "-e", "base_address=", label="no addresses")
    assert play.returncode == 2
    assert "has no base_address" in play.words, play.tail()
    assert play.changed == 0


def test_rabbitmq_on_another_host_is_refused_by_name(fleet):
    play = fleet.play("preflight", extra={"app_broker": "rabbitmq"}, label="RabbitMQ for three hosts")
    assert play.returncode == 2
    assert "app1, app2, app3 of app_servers are not in brokers" in play.words, play.tail()


def test_host_that_is_not_reached_is_named_before_anything_changes(fleet):
    site = fleet.apps[1]
    site.sudo(f"ip route add unreachable {fleet.data.declaration.address}/32")
    try:
        play = fleet.play("site", label="no way to the database")
    finally:
        site.sudo(f"ip route del unreachable {fleet.data.declaration.address}/32")
    assert play.returncode == 2
    assert "app2 does not reach PostgreSQL on data1" in play.words, play.tail()
    assert play.changed == 0
