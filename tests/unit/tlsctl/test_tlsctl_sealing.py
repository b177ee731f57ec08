"""What one host seals for another is read by that one alone, and believed of that one alone."""

from __future__ import annotations

import pytest
from conftest import make_pair, serials
from tlsctl import sealing
from tlsctl.errors import Trouble


@pytest.fixture
def hosts(declare):
    """Return the host that issues, one that fetches, and one that has no part in it."""
    found = [declare(host=host, members=["www2"]) for host in ("www1", "www2", "www9")]
    make_pair(found[0].folder)
    for each in found:
        sealing.make_identity(each)
    for each in found:
        for other in found:
            each.peer(other.host).parent.mkdir(exist_ok=True)
            each.peer(other.host).write_text(other.identity_certificate.read_text())
    return found


def sealed_for_www2(its):
    return sealing.seal(its, sealing.pair_for(its, "www2"), "www2")


def test_pair_arrives_whole_and_unreadable_on_the_way(hosts):
    issuer, member, _ = hosts
    sealed = sealed_for_www2(issuer)
    told = sealing.unseal(member, sealed, "www1")
    assert (told["name"], told["host"]) == ("shop", "www2")
    assert told["pair"]["privkey.pem"].encode() == serials(issuer)[1]
    assert told["pair"]["fullchain.pem"] == issuer.certificate.read_text()
    assert sealed.startswith("-----BEGIN CMS-----")


def test_nobody_but_the_host_it_is_for_opens_it(hosts):
    issuer, _, stranger = hosts
    with pytest.raises(Trouble, match="cms -decrypt"):
        sealing.unseal(stranger, sealed_for_www2(issuer), "www1")


def test_seal_of_another_host_is_not_believed(hosts):
    _issuer, member, stranger = hosts
    make_pair(stranger.folder)
    with pytest.raises(Trouble, match="signer certificate not found"):
        sealing.unseal(member, sealed_for_www2(stranger), "www1")


def test_seal_that_brings_its_own_certificate_is_not_believed(hosts):
    _issuer, member, stranger = hosts
    signer = ["-signer", str(stranger.identity_certificate), "-inkey", str(stranger.identity_key)]
    signed = sealing._openssl("cms", "-sign", "-binary", "-nodetach", "-outform", "PEM", *signer, given="{}")
    recipient = ["-recip", str(member.identity_certificate)]
    sealed = sealing._openssl("cms", "-encrypt", "-aes-256-gcm", "-outform", "PEM", *recipient, given=signed)
    with pytest.raises(Trouble, match="signer certificate not found"):
        sealing.unseal(member, sealed, "www1")


def test_what_was_changed_on_the_way_is_not_believed(hosts):
    issuer, member, _ = hosts
    lines = sealed_for_www2(issuer).splitlines()
    for number in range(1, len(lines) - 1, 3):
        changed = lines[number][:7] + ("A" if lines[number][7] != "A" else "B") + lines[number][8:]
        with pytest.raises(Trouble):
            sealing.unseal(member, "\n".join([*lines[:number], changed, *lines[number + 1 :]]), "www1")


def test_identity_is_made_once_and_its_key_is_roots_alone(declare):
    its = declare(host="www1")
    assert sealing.make_identity(its)
    before = its.identity_key.read_bytes()
    assert not sealing.make_identity(its)
    assert its.identity_key.read_bytes() == before
    assert its.identity_key.stat().st_mode & 0o777 == 0o600


def test_everybody_known_is_given_it_and_nobody_else_any_more(hosts, declare):
    issuer = declare(host="www1", members=["www2", "www3"])
    sealing.publish(issuer)
    assert [path.name for path in issuer.sealed.iterdir()] == ["www2.cms"]
    sealing.publish(declare(host="www1", members=["www3"]))
    assert list(issuer.sealed.iterdir()) == []


def test_host_alone_seals_nothing(declare):
    its = declare()
    sealing.publish(its)
    assert not its.sealed.exists()
