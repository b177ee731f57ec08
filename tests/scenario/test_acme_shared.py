"""Two hosts of one name share a certificate: one gets it and renews it, the other fetches it."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import visiting
from testbed import durations

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def hosts(sharing):
    """Return the host that issues, and the one the ACME server asks."""
    issuer, member = sharing
    return SimpleNamespace(issuer=issuer, member=member)


@pytest.fixture(scope="module")
def first_run(hosts):
    """Have a certificate issued to both fresh hosts by one run, after a dry run."""
    dry = hosts.issuer.play("--check", "--diff", label="site.yml with a shared certificate, --check").ok()
    play = hosts.issuer.play("-vv", "--diff", label="site.yml with a shared certificate").ok()
    durations.record("certificate on two fresh hosts", play.seconds)
    return SimpleNamespace(dry=dry, play=play)


def renewal_told(host):
    return host.metrics()[f'tls_renewal_last_run_success{{name="{host.site.app}"}}']


def test_both_hosts_serve_the_certificate_after_one_run(first_run, hosts):
    assert first_run.dry.changed > 0
    assert "Pebble Intermediate CA" in hosts.issuer.shown()
    assert hosts.member.shown() == hosts.issuer.shown()
    for host in (hosts.issuer, hosts.member):
        assert host.site.sudo(f"tlsctl check {host.site.app}") == ""
        assert renewal_told(host) == 1


def test_server_asked_the_host_that_does_not_issue(first_run, hosts):
    log = hosts.member.site.sudo(f"cat /var/log/nginx/{hosts.member.site.app}.access.log")
    asked = re.findall(r'"path": ?"/\.well-known/acme-challenge/[^"]+".*', log)
    assert asked, log[-2000:]
    assert re.search(r'"status": ?"?200', asked[-1]), asked


def test_key_is_roots_alone_and_in_nobodys_words(first_run, hosts):
    app, keys = hosts.issuer.site.app, set()
    for host in (hosts.issuer, hosts.member):
        path = f"/etc/ssl/{app}/privkey.pem"
        assert host.site.sudo(f"stat -L -c '%U %a' {path}").split() == ["root", "600"]
        keys.add(host.site.sudo(f"sed -n 2p {path}").strip())
        own = host.site.sudo(f"stat -c '%U %a' /etc/tlsctl/{app}/identity.key").split()
        assert own == ["root", "600"]
    [line] = keys
    assert line
    assert line not in first_run.play.output
    # What stands there for the other host is not readable on the way.
    assert line not in hosts.issuer.site.sudo(f"cat /var/lib/tlsctl/{app}/sealed/www2.cms")


def test_only_one_of_them_asks_the_server(first_run, hosts):
    assert hosts.member.site.host.run("command -v certbot").rc != 0
    for host, timer in ((hosts.issuer, "certbot.timer"), (hosts.member, "tlsctl-fetch.timer")):
        assert host.site.sudo(f"systemctl is-enabled {timer}; systemctl is-active {timer}").split() == [
            "enabled",
            "active",
        ]
    assert "tlsctl-fetch.timer" not in hosts.issuer.site.sudo("systemctl list-timers --all")


def test_second_run_and_dry_run_change_nothing(first_run, hosts):
    for words in ([], ["--check"]):
        play = hosts.issuer.play(*words, label=f"second with a shared certificate {' '.join(words)}").ok()
        assert play.changed == 0, play.changed_tasks


@pytest.fixture(scope="module")
def renewal(first_run, hosts):
    """Renew on the one, and let the other fetch while it has visitors."""

    def renew():
        hosts.issuer.make_due()
        assert hosts.issuer.renew(), hosts.issuer.site.sudo("journalctl -u certbot.service -n 30")

    found = visiting.during(hosts.member, hosts.member.fetch, first=renew)
    durations.record("fetch of a renewed certificate, until it is served", found.seconds)
    return found


def test_renewal_reaches_the_other_host(renewal, hosts):
    assert renewal.well, hosts.member.site.sudo("journalctl -u tlsctl-fetch.service -n 30")
    assert renewal.after != renewal.before
    assert hosts.member.shown() == hosts.issuer.shown()
    assert renewal_told(hosts.member) == 1


def test_renewal_drops_no_connection_of_the_other_host(renewal):
    renewal.dropped_nothing()


def test_other_host_keeps_what_it_has_while_the_first_is_away(renewal, hosts):
    member, before = hosts.member, hosts.member.serial()
    hosts.issuer.site.sudo("systemctl stop nginx.service")
    try:
        assert not member.fetch()
        check = member.site.host.run(f"tlsctl check {member.site.app}")
    finally:
        hosts.issuer.site.sudo("systemctl start nginx.service")
    assert member.serial() == before
    assert renewal_told(member) == 0
    assert check.rc == 1
    assert "www1 (" in check.stderr
    assert "does not answer" in check.stderr
    assert member.fetch(), member.site.sudo("journalctl -u tlsctl-fetch.service -n 30")
    assert renewal_told(member) == 1


def test_what_somebody_else_seals_is_not_taken_up(renewal, hosts):
    issuer, member, app = hosts.issuer.site, hosts.member, hosts.issuer.site.app
    before = member.serial()
    issuer.sudo(f"cp -a /etc/tlsctl/{app} /root/known && rm /etc/tlsctl/{app}/identity.*")
    try:
        issuer.sudo(f"tlsctl identity {app} && tlsctl settle {app}")
        assert not member.fetch()
    finally:
        issuer.sudo(f"rm -r /etc/tlsctl/{app} && mv /root/known /etc/tlsctl/{app} && tlsctl settle {app}")
    assert member.serial() == before
    assert "signer certificate not found" in member.site.sudo("journalctl -u tlsctl-fetch.service -n 5")
    assert member.fetch()


def test_host_that_no_longer_issues_asks_no_more_and_both_go_on(renewal, hosts):
    """Name the other one, which does not reach the ACME server of this test."""
    app, before = hosts.issuer.site.app, hosts.issuer.serial()
    play = hosts.issuer.play(label="another host is to issue", tls_acme_issuer="www2")
    assert play.returncode == 2
    assert "issued no certificate" in play.words, play.tail()
    left = f"ls -d /etc/letsencrypt/renewal/{app}.conf /var/lib/tlsctl/{app}/sealed"
    assert hosts.issuer.site.host.run(left).stdout == ""
    assert "tlsctl-fetch.timer" in hosts.issuer.site.sudo("systemctl list-timers")
    assert hosts.issuer.serial() == hosts.member.serial() == before
