"""What happens to clients while nginx is changed: a reload that cannot be done, an upgrade of its package."""

from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest
from testbed.sites import until

SQUATTED_PORT = 9181
BIG_MB = 64


@pytest.fixture
def squatter(spare):
    """Let another program listen where the internal listener is to go."""
    unit = f"squatter-{time.time_ns()}"
    spare.sudo(f"systemd-run --unit={unit} python3 -m http.server --bind 127.0.0.1 {SQUATTED_PORT}")
    assert until(10, lambda: f":{SQUATTED_PORT} " in spare.sudo("ss -ltn"))
    yield
    spare.sudo(f"systemctl stop {unit}")


def test_reload_that_cannot_bind_fails_in_words_and_the_old_configuration_serves(spare, squatter):
    before = spare.nginx_workers()
    extra = {"nginx_internal_port": SQUATTED_PORT}
    failed = spare.play("site", "--tags", "nginx", extra=extra, label="site.yml with a port that is taken")
    assert failed.returncode == 2, failed.tail()
    words = failed.words.partition("[ERROR]")[2]
    for part in (
        f"{spare.name}: nginx was told to reload and goes on with its old configuration",
        f"127.0.0.1:{SQUATTED_PORT} failed",
        "sudo ss -tulnp",
        "nginx_internal_port",
    ):
        assert part in words, failed.tail()
    assert spare.nginx_workers() == before
    assert spare.web.get("/livez").status == 200

    # The next run finds every file as it was, and still reloads what did not reload.
    spare.play("site", "--tags", "nginx", label="site.yml with the port as it was").ok()
    assert not set(spare.nginx_workers()) & set(before)
    assert "9180" in spare.sudo("ss -ltn")


class Download:
    """Somebody on a slow line, who takes a big file in over the length of a test."""

    def __init__(self, site, path: str):
        """Ask for the file; read some of it."""
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        plain.settimeout(60)
        plain.connect(("127.0.0.1", site.web.https_port))
        context = ssl.create_default_context(cafile=str(site.ca_path))
        self.socket = context.wrap_socket(plain, server_hostname=site.web.name)
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {site.web.host_header}\r\nConnection: close\r\n\r\n".encode()
        )
        self.size = 0
        self.hurry = threading.Event()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        while piece := self.socket.recv(16384):
            self.size += len(piece)
            self.hurry.wait(0.02)

    def finish(self) -> int:
        """Take the rest in at once; return the number of bytes."""
        self.hurry.set()
        self.thread.join(120)
        assert not self.thread.is_alive()
        return self.size


class Visitors:
    """Somebody who asks again and again, each time on a new connection."""

    def __init__(self, site):
        """Begin."""
        self.answered, self.lost = 0, []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.ask, args=(site.web,))
        self.thread.start()

    def ask(self, web) -> None:
        while not self.done.wait(0.05):
            try:
                status = web.get("/livez").status
                assert status == 200, status
                self.answered += 1
            except (OSError, AssertionError) as error:
                self.lost.append(repr(error))

    def finish(self) -> None:
        self.done.set()
        self.thread.join(30)


def test_upgrade_of_debians_package_ends_no_download_and_refuses_nobody(spare, say):
    path = f"/srv/{spare.app}/current/static/big.bin"
    spare.sudo(f"head -c {BIG_MB}M /dev/zero > {path}")
    try:
        master = spare.sudo("cat /run/nginx.pid").strip()
        download, visitors = Download(spare, "/static/big.bin"), Visitors(spare)
        spare.sudo(
            "DEBIAN_FRONTEND=noninteractive apt-get -qq update && "
            "DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --reinstall nginx nginx-common",
            timeout_seconds=300,
        )
        went_on = download.size < BIG_MB * 1024 * 1024 and download.thread.is_alive()
        visitors.finish()
        size = download.finish()
    finally:
        spare.sudo(f"rm {path}")
    say(f"{spare.name}: {visitors.answered} answered through an upgrade of nginx, {len(visitors.lost)} lost")
    assert went_on, "the download ended before the upgrade did: nothing is shown"
    assert size > BIG_MB * 1024 * 1024
    assert visitors.lost == []
    assert visitors.answered > 20
    assert spare.sudo("cat /run/nginx.pid").strip() != master
    assert until(
        10,
        lambda: (
            spare.sudo("systemctl show --property=MainPID --value nginx").strip()
            == spare.sudo("cat /run/nginx.pid").strip()
        ),
    )


def test_needrestart_would_replace_nginx_and_not_restart_it(spare):
    master = spare.sudo("cat /run/nginx.pid").strip()
    since = spare.sudo("systemctl show --property=ActiveEnterTimestampMonotonic nginx")
    visitors = Visitors(spare)
    spare.sudo("/etc/needrestart/restart.d/nginx.service")
    visitors.finish()
    assert visitors.lost == []
    assert spare.sudo("cat /run/nginx.pid").strip() != master
    assert spare.sudo("systemctl show --property=ActiveEnterTimestampMonotonic nginx") == since
