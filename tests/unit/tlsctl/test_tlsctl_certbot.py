"""When certbot is asked for a certificate, and what it is told about renewing."""

from __future__ import annotations

import time

import pytest
from conftest import make_pair
from tlsctl import certbot, certificate

DAY = 86400
CONF = """# renew_before_expiry = 30 days
version = 2.1.0
[renewalparams]
account = 0123abcd
server = https://acme.example.org:14000/dir
"""


@pytest.fixture
def its(declare):
    """Return what certbot has a good certificate of."""
    its = declare()
    make_pair(its.lineage)
    its.renewal.parent.mkdir()
    its.renewal.write_text(CONF)
    (certbot.accounts_dir(its) / "0123abcd").mkdir(parents=True)
    return its


def test_good_certificate_is_left_alone(its):
    assert certbot.reason_to_ask(its) == ""


def test_account_is_looked_for_where_certbot_keeps_it(its):
    assert certbot.accounts_dir(its) == its.certbot_dir / "accounts/acme.example.org:14000/dir"


def test_first_certificate_is_asked_for(declare):
    assert certbot.reason_to_ask(declare()) == "there is none yet"


def test_other_names_ask_for_another(its, declare):
    assert "it names www.example.org" in certbot.reason_to_ask(declare(server_names=["other.example.org"]))


def test_another_server_is_asked(its, declare):
    other = declare(acme={"directory_url": "https://other.example.org/dir", "email": ""})
    assert certbot.reason_to_ask(other) == "it was issued by https://acme.example.org:14000/dir"


def test_account_that_is_gone_asks_for_another(its):
    (certbot.accounts_dir(its) / "0123abcd").rename(its.certbot_dir / "elsewhere")
    assert certbot.reason_to_ask(its) == "the account it was issued to is gone"


def test_last_third_is_due(its):
    now = time.time()
    for passed, due in ((59, False), (61, True)):
        found = certificate.Certificate("1", now - passed * DAY, now + (90 - passed) * DAY, ())
        assert certbot.is_due(its, found) == due


def test_what_certbot_was_told_decides(its):
    its.renewal.write_text(f"renew_before_expiry = {100 * DAY} seconds\n{CONF}")
    assert certbot.reason_to_ask(its) == "it is due for renewal"
    certbot.note_window(its)
    assert certbot.reason_to_ask(its) == ""


def test_certbot_is_told_when_to_renew_and_the_rest_is_kept(its):
    for _ in range(2):
        certbot.note_window(its)
        assert its.renewal.read_text() == f"renew_before_expiry = {30 * 86400} seconds\n{CONF}"
    make_pair(its.lineage, days=6)
    certbot.note_window(its)
    assert its.renewal.read_text() == f"renew_before_expiry = {3 * 86400} seconds\n{CONF}"
