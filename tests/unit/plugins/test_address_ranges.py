"""An address nginx could not read, or would read as another, is none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[3] / "plugins/test/addresses.py"


@pytest.fixture(scope="module")
def address_range():
    spec = importlib.util.spec_from_file_location("addresses", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TestModule().tests()["address_range"]


@pytest.mark.parametrize(
    "value",
    ["192.0.2.17", "192.0.2.0/24", "192.0.2.17/32", "0.0.0.0/0", "2001:db8::17", "2001:db8:7::/48", "::1"],
)
def test_addresses_and_ranges_are_taken(address_range, value):
    assert address_range(value) is True


@pytest.mark.parametrize(
    "value",
    [
        "", "10.0.0.1/8", "192.0.2.256", "192.0.2.17/33", "192.0.2.0/255.255.255.0", "2001:db8::1/48",
        "fe80::1%eth0", "www.example.org", "192.0.2.17 1; include /etc/shadow", "192.0.2.17\n", 3221226001,
        None, ["192.0.2.17"],
    ],
)  # fmt: skip
def test_anything_else_is_refused(address_range, value):
    assert address_range(value) is False
