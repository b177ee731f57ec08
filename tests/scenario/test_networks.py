"""An app that was given its networks talks to them, to its own host, and to nobody else."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def address(spare):
    """Return the address this host has for others: what it leads to is there, and in no list of the app's."""
    return spare.sudo("hostname -I").split()[0]


def test_app_reaches_its_own_host_and_no_other_network(hostile, address):
    asked = {
        place: hostile.app.web.get(f"/call?host={place}&port=22").text for place in ("127.0.0.1", address)
    }
    assert asked["127.0.0.1"] == "reached"
    assert asked[address].startswith("not reached"), asked


def test_whoever_has_no_such_list_reaches_it(spare, address):
    """The probe above would find nothing wrong with an address that nobody reaches."""
    call = f'import socket; socket.create_connection(("{address}", 22), timeout=3)'
    spare.sudo(f"systemd-run --quiet --wait --pipe --property=User={spare.app} python3 -c '{call}'")
