"""The certificate: vouched for by the inventory's own authority, its key for root alone."""

from __future__ import annotations

import hashlib
import socket
import ssl

import pytest


@pytest.fixture
def served(web):
    """Return the certificate as the listener shows it, verified against the authority."""
    with (
        socket.create_connection(("127.0.0.1", web.https_port), timeout=10) as plain,
        web.context().wrap_socket(plain, server_hostname=web.name) as secure,
    ):
        return secure.getpeercert(binary_form=True), secure.getpeercert(), secure.version()


def test_certificate_is_the_local_authoritys_and_names_the_app(served, web):
    _, certificate, version = served
    assert ("DNS", web.name) in certificate["subjectAltName"]
    assert version == "TLSv1.3"


def test_certificate_served_is_the_one_on_disk(served, host, app):
    text = host.file(f"/etc/ssl/{app}/fullchain.pem").content_string
    on_disk = ssl.PEM_cert_to_DER_cert(text[: text.index("-----END CERTIFICATE-----") + 26])
    assert hashlib.sha256(served[0]).hexdigest() == hashlib.sha256(on_disk).hexdigest()


def test_certificate_does_not_vouch_for_another_name(web):
    context = web.context()
    with (
        socket.create_connection(("127.0.0.1", web.https_port), timeout=10) as plain,
        pytest.raises(ssl.SSLError),
        context.wrap_socket(plain, server_hostname="other.localhost"),
    ):
        pass


def test_certificate_is_not_trusted_without_the_authority(web):
    with (
        socket.create_connection(("127.0.0.1", web.https_port), timeout=10) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
        ssl.create_default_context().wrap_socket(plain, server_hostname=web.name),
    ):
        pass


def test_private_key_is_roots_alone(host, app):
    key = host.file(f"/etc/ssl/{app}/privkey.pem")
    assert (key.user, key.group, key.mode) == ("root", "root", 0o600)


def test_authoritys_key_never_reaches_the_host(host, site):
    key = (site.state_dir / "ca/ca.key").read_text().splitlines()[1]
    assert host.run(f"grep -rlF -- '{key}' /etc /srv /usr/local /root /home").stdout == ""
