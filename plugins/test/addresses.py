"""Tests for Jinja that know what an address is."""

from __future__ import annotations

import ipaddress


def is_address_range(value: object) -> bool:
    """Tell whether a value is an IP address, or a range that begins where its length says.

    `10.0.0.1/8` is none: whoever wrote it meant one address, or all of them, and nobody can tell which.
    """
    # A bare number is an address to `ipaddress`, and a slip of the pen in an inventory.
    if not isinstance(value, str):
        return False
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        return False
    # nginx reads neither a mask of dots nor the name of an interface.
    mask = value.partition("/")[2]
    return "%" not in value and (not mask or mask == str(network.prefixlen))


class TestModule:
    """What Ansible looks for in a file of tests."""

    # pytest takes the name for one of its own.
    __test__ = False

    def tests(self):
        """Return the tests by the names Jinja knows them by."""
        return {"address_range": is_address_range}
