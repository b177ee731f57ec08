"""A host gets its certificate of an ACME server, renews it under visitors, and says so when it cannot."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import visiting
from testbed import durations
from testbed.certifying import DIRECTORY_URL, LIFETIME_SECONDS

pytestmark = pytest.mark.long

RENEWED_WITHIN_SECONDS = 60


@pytest.fixture(scope="module")
def first_run(certified):
    """Have a certificate issued to a fresh host, after a dry run."""
    dry = certified.play("--check", "--diff", label="site.yml with acme, --check on a fresh host").ok()
    play = certified.play(label="site.yml with acme on a fresh host").ok()
    durations.record(f"{certified.site.name} certificate, certbot and nginx on a fresh host", play.seconds)
    return SimpleNamespace(dry=dry, play=play, shown=certified.shown())


def test_certificate_of_the_server_is_served_after_one_run(first_run, certified):
    assert "Pebble Intermediate CA" in first_run.shown
    assert f"DNS:{certified.name}" in first_run.shown
    assert "id-ecPublicKey" in first_run.shown
    # Asked for where the server asks, and nowhere else in public.
    log = certified.site.sudo(f"cat /var/log/nginx/{certified.site.app}.access.log")
    assert re.search(r'"/\.well-known/acme-challenge/', log), log[-2000:]


def test_dry_run_on_a_fresh_host_asks_for_nothing(first_run):
    assert first_run.dry.changed > 0
    assert "Have a certificate issued" not in " ".join(first_run.dry.changed_tasks)


def test_key_is_roots_alone_and_stays_on_the_host(first_run, certified):
    app, site = certified.site.app, certified.site
    key = site.sudo(f"stat -L -c '%U %a' /etc/ssl/{app}/privkey.pem").split()
    assert key == ["root", "600"]
    line = site.sudo(f"sed -n 2p /etc/ssl/{app}/privkey.pem").strip()
    assert line
    assert line not in first_run.play.output


def test_second_run_and_dry_run_change_nothing(first_run, certified):
    for words in ([], ["--check"]):
        play = certified.play(*words, label=f"second site.yml with acme {' '.join(words)}").ok()
        assert play.changed == 0, play.changed_tasks


def test_certbot_renews_when_a_third_of_the_lifetime_is_left(first_run, certified):
    kept = certified.site.sudo(f"cat /etc/letsencrypt/renewal/{certified.site.app}.conf")
    # Pebble's ends a second before.
    seconds = int(re.search(r"renew_before_expiry = (\d+) seconds", kept)[1])
    assert abs(seconds - LIFETIME_SECONDS / 3) < 2
    told = certified.metrics()
    ends = told[f'tls_certificate_not_after_timestamp_seconds{{name="{certified.site.app}",where="served"}}']
    due = told[f'tls_certificate_renewal_due_timestamp_seconds{{name="{certified.site.app}"}}']
    assert abs(ends - due - LIFETIME_SECONDS / 3) < 2


@pytest.fixture(scope="module")
def renewal(first_run, certified):
    """Renew while somebody downloads and others come and go."""
    found = visiting.during(certified, certified.renew, first=certified.make_due)
    durations.record(f"{certified.site.name} renewal, until the new serial is served", found.seconds)
    return found


def test_renewal_serves_the_new_serial_within_a_minute(renewal, certified):
    assert renewal.well, certified.site.sudo("journalctl -u certbot.service -n 30")
    assert renewal.after != renewal.before
    assert renewal.seconds < RENEWED_WITHIN_SECONDS


def test_renewal_drops_no_connection(renewal):
    renewal.dropped_nothing()


def test_renewal_is_told_to_prometheus(renewal, certified):
    assert renewal.told[f'tls_renewal_last_run_success{{name="{certified.site.app}"}}'] == 1
    assert renewal.told[f'tls_certificate_served_is_current{{name="{certified.site.app}"}}'] == 1


@pytest.fixture(scope="module")
def server_away(renewal, certified):
    """Let a renewal come due while the ACME server is away."""
    certified.stop_server()
    certified.make_due()
    before = certified.serial()
    well = certified.renew()
    check = certified.site.host.run(f"tlsctl check {certified.site.app}")
    return SimpleNamespace(
        well=well, before=before, after=certified.serial(), told=certified.metrics(), check=check
    )


def test_failed_renewal_keeps_the_old_certificate_and_raises_a_metric(server_away, certified):
    assert not server_away.well
    assert server_away.after == server_away.before
    assert server_away.told[f'tls_renewal_last_run_success{{name="{certified.site.app}"}}'] == 0
    assert server_away.told[f'tls_certificate_served_is_current{{name="{certified.site.app}"}}'] == 1
    assert server_away.check.rc == 1
    assert "the last renewal failed" in server_away.check.stderr
    assert "next: " in server_away.check.stderr


@pytest.fixture(scope="module")
def server_back(server_away, certified):
    """Bring the server back, without the account it had, and let certbot and then the role run."""
    certified.start_server()
    alone = certified.renew()
    before = certified.serial()
    play = certified.play(label="site.yml with acme, the account lost").ok()
    return SimpleNamespace(
        alone=alone, before=before, play=play, after=certified.serial(), told=certified.metrics()
    )


def test_lost_account_is_registered_anew_by_the_next_run(server_back, certified):
    assert not server_back.alone, "certbot has an account that the server does not know"
    assert server_back.play.changed_tasks == [
        "tls : Have a certificate issued where one is needed, and see it served"
    ]
    assert server_back.after != server_back.before
    assert server_back.told[f'tls_renewal_last_run_success{{name="{certified.site.app}"}}'] == 1


def test_deactivated_account_is_registered_anew(server_back, certified):
    site, before = certified.site, certified.serial()
    site.sudo(
        "cp -a /etc/letsencrypt/accounts /root/accounts && tlsctl roots /root/roots.pem && "
        f"REQUESTS_CA_BUNDLE=/root/roots.pem certbot unregister -n --server {DIRECTORY_URL} && "
        "rm -r /etc/letsencrypt/accounts && mv /root/accounts /etc/letsencrypt/accounts",
        timeout_seconds=120,
    )
    certified.make_due()
    assert not certified.renew()
    said = site.sudo(f"tlsctl issue {site.app}", timeout_seconds=180)
    assert "no longer knows the account" in said
    assert certified.serial() != before
    certified.make_due()
    assert certified.renew(), site.sudo("journalctl -u certbot.service -n 30")


def test_certificate_that_nginx_does_not_take_up_is_told_and_served_by_the_next_run(server_back, certified):
    site, before = certified.site, certified.serial()
    broken = "/etc/nginx/conf.d/broken.conf"
    site.sudo(f"echo 'no_such_directive on;' > {broken}")
    certified.make_due()
    assert not certified.renew()
    on_disk = site.sudo(f"openssl x509 -noout -serial -in /etc/ssl/{site.app}/fullchain.pem")
    assert on_disk.strip() == f"serial={before}"
    assert certified.serial() == before
    told = certified.metrics()
    assert told[f'tls_renewal_last_run_success{{name="{site.app}"}}'] == 0
    site.sudo(f"rm {broken}")
    assert certified.renew(), site.sudo("journalctl -u certbot.service -n 30")
    assert certified.serial() != before
    assert site.sudo(f"tlsctl check {site.app}") == ""
