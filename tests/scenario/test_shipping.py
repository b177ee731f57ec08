"""A host's journal is on the host that watches it, whole, whatever came between them; nobody else's is."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from testbed import durations
from testbed.shipping import PORT, RECEIVED_DIR
from testbed.sites import until

pytestmark = pytest.mark.long

LINES, INTERVAL_SECONDS = 1500, 0.15
CUT_SECONDS = 120
# TCP tries again within two minutes at the latest.
RECOVERY_SECONDS = 180
OWN = "/etc/journal-tls/own"
TRUSTED = "/etc/journal-tls/receivers.crt"
STATE = "/var/lib/systemd/journal-upload/state"
LOG_COUNTS = Path(__file__).parents[2] / "roles/exporters/files/log_counts.py"
# Where the host is watched a timer runs it, with as little as this.
COUNT = (
    "systemd-run --quiet --pipe --wait --collect --property=CapabilityBoundingSet="
    " --property='SupplementaryGroups=adm systemd-journal' python3 -IB - --state=/run/counted.json"
    " --metrics=/run/counted.prom; cat /run/counted.prom"
)
RECEIVING = "journal-tls.service systemd-journal-remote.socket systemd-journal-remote.service"
CUT = f"""
table inet cut {{
    chain output {{ type filter hook output priority -10; tcp dport {PORT} drop; }}
    chain input {{ type filter hook input priority -10; tcp sport {PORT} drop; }}
}}
"""
# As somebody who has a certificate of the same form, and nobody's trust.
CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3 -subj /CN=www1"
    " -addext subjectAltName=IP:{address} -addext basicConstraints=critical,CA:FALSE"
    " -keyout {path}.key -out {path}.crt 2>/dev/null"
)
# Without the host's own settings, beside which it takes no others.
UPLOAD = (
    "unshare --mount sh -c 'mount --bind /dev/null /etc/systemd/journal-upload.conf &&"
    " exec timeout 20 /lib/systemd/systemd-journal-upload --follow=no --file=/root/forged.journal"
    " --url=https://{address}:{port} --key={path}.key --cert={path}.crt --trust={trusted}'"
)
FORGE = r"""
printf '__REALTIME_TIMESTAMP=%s\n__MONOTONIC_TIMESTAMP=1\n_BOOT_ID=%s\n_HOSTNAME=%s\n' \
    $(date +%s%6N) $(tr -d - < /proc/sys/kernel/random/boot_id) $(hostname) > /root/forged
printf 'SYSLOG_IDENTIFIER=forged\nMESSAGE=forged\n\n' >> /root/forged
/lib/systemd/systemd-journal-remote --output=/root/forged.journal - < /root/forged 2>/dev/null
"""


@pytest.fixture(scope="module")
def hosts(shipping):
    return shipping


@pytest.fixture(scope="module")
def first_run(hosts):
    """Have the journal shipped, after a dry run."""
    dry = hosts.play("site", "--check", "--diff", label="site.yml with shipping, --check").ok()
    play = hosts.play("site", "-vv", "--diff", label="site.yml with shipping").ok()
    durations.record("shipping on two fresh hosts", play.seconds)
    assert until(60, lambda: hosts.received("--lines=1")), hosts.shipper.sudo(
        "journalctl -u systemd-journal-upload --no-pager -n 20"
    )
    return SimpleNamespace(dry=dry, play=play)


def waited(site):
    """Return for how many seconds a host's oldest unshipped line has waited, as its metrics tell."""
    told = site.sudo(COUNT, stdin=LOG_COUNTS.read_bytes())
    return int(re.search(r"^journal_unshipped_age_seconds (\d+)$", told, re.MULTILINE)[1])


@pytest.fixture(scope="module")
def numbered(first_run, hosts):
    """Return numbered lines as they came over: the network was cut, then the receiver restarted."""
    shipper, receiver = hosts.shipper, hosts.receiver
    shipper.sudo(
        "systemd-run --quiet --unit=numbered --property=SyslogIdentifier=numbered sh -c "
        f"'for i in $(seq {LINES}); do echo $i; sleep {INTERVAL_SECONDS}; done'"
    )
    time.sleep(5)
    shipper.sudo("nft -f -", stdin=CUT.encode())
    time.sleep(CUT_SECONDS)
    during = len(hosts.received("SYSLOG_IDENTIFIER=numbered"))
    waiting = waited(shipper)
    shipper.sudo("nft delete table inet cut")
    with durations.measured(f"lines of a {CUT_SECONDS} s cut arrive"):
        assert until(
            RECOVERY_SECONDS, lambda: len(hosts.received("SYSLOG_IDENTIFIER=numbered")) > during + 600, 2
        ), shipper.sudo("journalctl -u systemd-journal-upload --no-pager -n 20")
    receiver.sudo(f"systemctl stop {RECEIVING}")
    time.sleep(15)
    receiver.sudo("systemctl start systemd-journal-remote.socket journal-tls.service")
    last = f"MESSAGE={LINES}"
    assert until(RECOVERY_SECONDS, lambda: hosts.received("SYSLOG_IDENTIFIER=numbered", last), 2)
    lines = hosts.received("SYSLOG_IDENTIFIER=numbered")
    return SimpleNamespace(during=during, waiting=waiting, lines=lines)


def test_lines_are_held_back_while_the_network_is_cut(numbered):
    assert 0 < numbered.during < 100


def test_metrics_tell_for_how_long_lines_have_waited(numbered, hosts):
    assert CUT_SECONDS - 20 < numbered.waiting < CUT_SECONDS + 60
    assert until(30, lambda: waited(hosts.shipper) < 20, 2)


def test_every_line_arrives_once_after_two_minutes_without_network_and_a_restart(numbered):
    assert Counter(int(line["MESSAGE"]) for line in numbered.lines) == Counter(range(1, LINES + 1))


def test_no_line_of_any_service_is_there_twice(numbered, hosts):
    # What a cursor says of the line itself: boot, times and digest. The rest is the file's it is in.
    said = Counter(line["__CURSOR"].split(";", 2)[2] for line in hosts.received())
    assert {cursor: count for cursor, count in said.items() if count > 1} == {}


def test_lines_keep_their_fields(numbered):
    line = numbered.lines[-1]
    assert line["_SYSTEMD_UNIT"] == "numbered.service"
    assert line["SYSLOG_IDENTIFIER"] == "numbered"


def test_second_run_and_dry_run_change_nothing(numbered, hosts):
    for words in ([], ["--check"]):
        play = hosts.play("site", *words, label=f"second with shipping {' '.join(words)}").ok()
        assert play.changed == 0, play.changed_tasks


def test_members_of_the_journals_group_read_what_was_shipped(numbered, hosts):
    hosts.receiver.sudo("useradd --system --groups systemd-journal reader")
    read = f"journalctl --directory {RECEIVED_DIR} --no-pager -o cat -t numbered"
    assert len(hosts.receiver.sudo(read, user="reader").split()) == LINES


def test_key_is_roots_alone_and_in_nobodys_words(first_run, hosts):
    keys = set()
    for site in (hosts.shipper, hosts.receiver):
        assert site.sudo(f"stat -c '%U %a' {OWN}.key").split() == ["root", "600"]
        keys.add(site.sudo(f"sed -n 2p {OWN}.key").strip())
    assert len(keys) == 2
    assert not [key for key in keys if key in first_run.play.output]


def test_firewall_lets_in_the_fleet_alone(first_run, hosts):
    rules = hosts.receiver.sudo("nft list table inet firewall")
    [rule] = [line.split() for line in rules.splitlines() if str(PORT) in line]
    assert rule[:3] == ["ip", "saddr", hosts.shipper.declaration.address]


def test_receiver_is_on_the_network_by_its_guard_alone(first_run, hosts):
    said = hosts.receiver.sudo("ss -Hltnp")
    [line] = [line for line in said.splitlines() if "stunnel" in line or "journal" in line]
    assert line.split()[3] == f"{hosts.receiver.declaration.address}:{PORT}"
    assert "stunnel" in line


def test_a_strangers_lines_are_refused(first_run, hosts):
    shipper, address = hosts.shipper, hosts.receiver.declaration.address
    shipper.sudo(f"{FORGE}{CERTIFICATE.format(address=shipper.declaration.address, path='/root/stranger')}")
    upload = UPLOAD.format(address=address, port=PORT, path="/root/stranger", trusted=TRUSTED)
    done = shipper.host.run(upload)
    assert done.rc == 1, done.stderr
    assert "alert unknown ca" in done.stderr or "not connected" in done.stderr
    assert hosts.received("SYSLOG_IDENTIFIER=forged") == []
    assert "Rejected by CERT" in hosts.receiver.sudo("journalctl -u journal-tls --no-pager -n 20")
    # The very same with a certificate that is known: what was refused was the stranger.
    known = upload.replace("/root/stranger", OWN)
    assert shipper.host.run(known).rc == 0
    assert until(10, lambda: len(hosts.received("SYSLOG_IDENTIFIER=forged")) == 1)


def test_verify_finds_nothing_wrong(numbered, hosts):
    hosts.play("verify", label="verify shipping").ok()


def test_verify_tells_of_lines_that_wait(numbered, hosts):
    shipper = hosts.shipper
    saved = shipper.sudo(f"cat {STATE}")
    shipper.sudo("systemctl kill --signal=STOP systemd-journal-upload.service")
    try:
        first = json.loads(shipper.sudo("journalctl --no-pager -o json | head -n 1"))["__CURSOR"]
        shipper.sudo(f"echo 'LAST_CURSOR={first}' > {STATE}")
        play = hosts.play("verify", label="verify shipping that hangs")
    finally:
        shipper.sudo(f"cat > {STATE}", stdin=saved.encode())
        shipper.sudo("systemctl kill --signal=CONT systemd-journal-upload.service")
    assert play.returncode == 2
    assert "its journal does not get to https://" in play.words


def test_nothing_is_shipped_to_whoever_took_the_receivers_address(numbered, hosts):
    receiver = hosts.receiver
    make = CERTIFICATE.format(address=receiver.declaration.address, path=OWN)
    receiver.sudo(f"cp -p {OWN}.key /root/kept.key; cp -p {OWN}.crt /root/kept.crt; {make}")
    try:
        receiver.sudo("systemctl restart journal-tls.service")
        hosts.shipper.sudo("logger -t after-the-change only-for-the-receiver")
        time.sleep(20)
        assert hosts.received("SYSLOG_IDENTIFIER=after-the-change") == []
        said = hosts.shipper.sudo("journalctl -u systemd-journal-upload --no-pager -n 20")
        assert "SSL certificate problem" in said
        assert hosts.play("verify", label="verify shipping to a stranger").returncode == 2
    finally:
        receiver.sudo(f"mv /root/kept.key {OWN}.key; mv /root/kept.crt {OWN}.crt")
        receiver.sudo("systemctl restart journal-tls.service")
    assert until(RECOVERY_SECONDS, lambda: hosts.received("SYSLOG_IDENTIFIER=after-the-change"), 2)


def test_an_inventory_that_would_ship_elsewhere_is_refused(numbered, hosts):
    hosts.shipper.sudo("touch /etc/journal-tls/receivers/shop.watch9.crt")
    try:
        words = ["--check", "-e", "journal_receiver_address=192.0.2.9"]
        play = hosts.play("site", *words, label="site.yml that ships elsewhere")
    finally:
        hosts.shipper.sudo("rm /etc/journal-tls/receivers/shop.watch9.crt")
    assert play.returncode == 2
    assert f"to https://{hosts.receiver.declaration.address}:{PORT}" in play.words
    assert "a host has one place to ship to" in play.words
