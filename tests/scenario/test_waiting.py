"""An upgrade of a library restarts nothing behind anybody's back; status.yml says what should be."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.long

LIBRARY = "$(readlink -f /lib/*-linux-gnu/libcrypto.so.3)"


@pytest.fixture(scope="module")
def upgraded(spare):
    """Put a new file in a library's place, as an upgrade does; return what was seen."""
    before = spare.pids()
    # A process keeps the file it opened: it runs an older one than is installed now.
    spare.sudo(f"cp -a {LIBRARY} {LIBRARY}.new && mv {LIBRARY}.new {LIBRARY}; touch /run/reboot-required")
    # dpkg calls needrestart when it is done.
    spare.sudo(
        "DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --reinstall tzdata >/dev/null",
        timeout_seconds=300,
    )
    play = spare.play("status", label="status.yml after an upgrade")
    spare.sudo("rm /run/reboot-required")
    return SimpleNamespace(before=before, after=spare.pids(), play=play)


def test_upgrade_restarts_neither_the_app_nor_what_it_needs(upgraded):
    assert upgraded.after == upgraded.before


def test_status_names_what_runs_an_older_library(upgraded):
    said = upgraded.play.ok().words
    assert "restart, for they run older files than are installed:" in said, upgraded.play.tail()
    assert "nginx.service" in said
    assert "ssh.service" in said


def test_status_says_that_a_package_wants_the_host_restarted(upgraded):
    assert "restart the host, for its kernel or its core libraries" in upgraded.play.words
