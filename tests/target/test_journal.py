"""Journals stay where they are as long as nobody watches from elsewhere."""

from __future__ import annotations

import pytest


def test_an_inventory_without_the_group_brings_none_of_it(host):
    assert host.run("dpkg-query --list systemd-journal-remote stunnel4").rc != 0
    assert host.run("ls -d /etc/journal-tls /etc/systemd/journal-*.conf").stdout == ""


@pytest.mark.long
def test_a_host_that_watches_itself_alone_ships_nothing(watched):
    assert watched.host.run("dpkg-query --list systemd-journal-remote stunnel4").rc != 0
    assert watched.host.run("ls -d /etc/journal-tls /etc/systemd/journal-*.conf").stdout == ""
