"""A host takes up what the issuing one sealed for it, and keeps what it has when that is not to be had."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest
from conftest import NAME, make_pair, serials
from tlsctl import certificate, cli, sealing, settings, telling
from tlsctl.errors import Trouble


class Sealed(http.server.BaseHTTPRequestHandler):
    """Stands for nginx on the host that issues: gives what is in its folder."""

    def do_GET(self):
        path = self.server.folder / self.path.removeprefix("/sealed/")
        known = path.exists() and self.headers["Host"] == NAME
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(path.read_bytes() if known else b"<html>not found</html>")

    def log_message(self, *_words):
        pass


@pytest.fixture
def hosts(declare, listen, commands, tmp_path):
    """Return a host that issues and one that fetches from it, with a placeholder, and how to ask both."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sealed)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown = make_pair(tmp_path / "shown")
    context.load_cert_chain(shown / "fullchain.pem", shown / "privkey.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    issuer = declare(host="www1", members=["www2", "www3"])
    server.folder = issuer.sealed
    make_pair(issuer.folder)
    told = {"host": "www1", "address": "127.0.0.1", "port": server.server_address[1]}
    member = declare(host="www2", mode="fetched", issuer=told)
    make_pair(member.folder, days=7)
    member = declare(host="www2", mode="fetched", issuer=told, port=listen(member.folder).port)
    # Somebody else on the same network, with everything but the identities.
    stranger = declare(host="www9", members=["www2"])
    make_pair(stranger.folder)
    for each in (issuer, member, stranger, declare(host="www3")):
        sealing.make_identity(each)
    known = {"www1": issuer, "www2": member, "www3": settings.load("shop", tmp_path / "www3/etc")}
    for each in (issuer, member, stranger):
        each.peer("www1").parent.mkdir()
        for host, other in known.items():
            each.peer(host).write_text(other.identity_certificate.read_text())
    yield SimpleNamespace(issuer=issuer, member=member, stranger=stranger, server=server)
    server.shutdown()
    server.server_close()


def metric(its):
    name = 'tls_renewal_last_run_success{name="shop"} '
    [line] = [line for line in its.metrics.read_text().splitlines() if line.startswith(name)]
    return float(line.removeprefix(name))


def test_pair_of_the_issuer_is_taken_up_served_and_left_alone_afterwards(hosts, commands, capsys):
    sealing.publish(hosts.issuer)
    cli._fetch(hosts.member)
    assert serials(hosts.member) == serials(hosts.issuer)
    assert hosts.member.private_key.stat().st_mode & 0o777 == 0o600
    assert certificate.served(hosts.member.port, NAME).serial == serials(hosts.issuer)[0]
    assert metric(hosts.member) == 1
    cli._fetch(hosts.member)
    assert capsys.readouterr().out == "installed\nnothing to do\n"
    assert commands.noted == ["nginx -t -q", "systemctl reload nginx.service"]


def test_renewal_follows(hosts):
    for _ in range(2):
        make_pair(hosts.issuer.folder)
        sealing.publish(hosts.issuer)
        cli._fetch(hosts.member)
        assert serials(hosts.member) == serials(hosts.issuer)


def replayed(hosts):
    sealing.publish(hosts.issuer)
    old = (hosts.issuer.sealed / "www2.cms").read_text()
    make_pair(hosts.issuer.folder)
    sealing.publish(hosts.issuer)
    cli._fetch(hosts.member)
    (hosts.issuer.sealed / "www2.cms").write_text(old)


def tampered(hosts):
    sealing.publish(hosts.issuer)
    path = hosts.issuer.sealed / "www2.cms"
    text = path.read_text()
    middle = len(text) // 2
    path.write_text(text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :])


def for_another_host(hosts):
    sealing.publish(hosts.issuer)
    (hosts.issuer.sealed / "www3.cms").rename(hosts.issuer.sealed / "www2.cms")


def lie(hosts, **told):
    """Seal for the member, as the issuer, what no issuer would say."""
    hosts.issuer.sealed.mkdir(parents=True)
    told = sealing.pair_for(hosts.issuer, "www2") | told
    (hosts.issuer.sealed / "www2.cms").write_text(sealing.seal(hosts.issuer, told, "www2"))


def passed_on_by_another_host(hosts):
    """Encrypt anew what was signed for www3, as www3 could."""
    lie(hosts, host="www3")


def of_another_app(hosts):
    lie(hosts, name="other")


def of_the_future(hosts):
    lie(hosts, at=time.time() + 3600)


def signed_by_a_stranger(hosts):
    sealing.publish(hosts.stranger)
    hosts.issuer.sealed.mkdir(parents=True)
    (hosts.stranger.sealed / "www2.cms").rename(hosts.issuer.sealed / "www2.cms")


def ended(hosts):
    folder = hosts.issuer.folder
    words = ["openssl", "x509", "-in", "fullchain.pem", "-signkey", "privkey.pem", "-days", "-1"]
    subprocess.run([*words, "-out", "ended.pem"], cwd=folder, check=True, capture_output=True, timeout=30)
    (folder / "ended.pem").rename(folder / "fullchain.pem")
    sealing.publish(hosts.issuer)


def of_other_names(hosts):
    make_pair(hosts.issuer.folder, names=(NAME, "other.example.org"))
    sealing.publish(hosts.issuer)


def nothing(hosts):
    pass


def unknown_issuer(hosts):
    sealing.publish(hosts.issuer)
    hosts.member.peer("www1").unlink()


def issuer_away(hosts):
    sealing.publish(hosts.issuer)
    hosts.server.shutdown()
    hosts.server.server_close()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (replayed, "before what was taken up already"),
        (tampered, "failed"),
        (for_another_host, "cms -decrypt"),
        (passed_on_by_another_host, "for www3"),
        (of_another_app, "what came is other's"),
        (of_the_future, "by this host's clock later"),
        (signed_by_a_stranger, "signer certificate not found"),
        (ended, "what came ended on"),
        (of_other_names, "names other.example.org, www.example.org, not www.example.org"),
        (nothing, "has nothing for www2"),
        (issuer_away, "does not answer"),
        (unknown_issuer, "nobody told this host how to know www1"),
    ],
)
def test_old_pair_is_kept_and_the_trouble_told(hosts, spoil, words):
    spoil(hosts)
    before = serials(hosts.member)
    with pytest.raises(Trouble, match=words):
        cli._fetch(hosts.member)
    assert serials(hosts.member) == before
    assert certificate.served(hosts.member.port, NAME).serial == before[0]
    assert metric(hosts.member) == 0
    assert words in telling.problems(hosts.member)[-1]
