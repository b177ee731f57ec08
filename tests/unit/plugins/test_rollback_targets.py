"""A rollback of a fleet goes where every host can go, or nowhere."""

import sys

import pytest
from target_host.shell import PROJECT_DIR

sys.path.insert(0, str(PROJECT_DIR / "plugins/filter"))

from rollback_targets import rollback_targets


@pytest.mark.parametrize(
    ("hosts", "targets"),
    [
        ([("b", "a")], ["a"]),
        ([("b", "a"), ("b", "a"), ("b", "a")], ["a"]),
        # A deploy of c was killed when one host had it.
        ([("c", "b"), ("b", "a")], ["b"]),
        ([("c", "b"), ("c", "b"), ("b", None)], ["b"]),
        # One host is new, and has nothing to go back to.
        ([("b", "a"), ("b", None)], []),
        ([("b", None)], []),
        ([(None, None)], []),
        ([("c", "b"), ("a", None)], []),
        # Nobody can tell which of the two was meant.
        ([("b", "a"), ("a", "b")], ["a", "b"]),
        ([], []),
    ],
)
def test_target_is_what_every_host_served(hosts, targets):
    told = [{"active": active, "previous": previous} for active, previous in hosts]
    assert rollback_targets(told) == targets
