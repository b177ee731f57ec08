"""Clients that take their time hold nobody up, and are cut off."""

from __future__ import annotations

import statistics

import pytest
from test_serving import described

SECONDS, CONNECTIONS = 30, 200
# nginx/conf.d/limits.conf, and what it takes to notice.
HEADER_SECONDS, BODY_SECONDS, NOTICE_SECONDS = 15, 30, 5


@pytest.fixture(scope="module")
def told(sandbox):
    """Return what the script tells."""
    # Debian 12's slowhttptest names no site in the handshake, and is refused there.
    scheme = "http" if sandbox.debian == 12 else "https"
    given = {
        "site": described(sandbox.hosts[0]) | {"scheme": scheme},
        "seconds": SECONDS,
        "connections": CONNECTIONS,
    }
    return sandbox.told("serving_slow", given)


both = pytest.mark.parametrize("sandbox", ["usual-12", "usual-13"], indirect=True, scope="session")


@both
def test_slow_clients_keep_nobody_else_waiting(told, say):
    took, calm = told["took"], statistics.quantiles(told["calm"], n=100)[98]
    slowest = statistics.quantiles(took, n=100)[98]
    say(
        f"{len(took)} visitors beside {max(told['held'])} connections, slow ones of three kinds: "
        f"{len(told['lost'])} lost, half within {statistics.median(took) * 1000:.0f} ms, "
        f"99 of 100 within {slowest * 1000:.0f} ms, {calm * 1000:.0f} ms when they are alone"
    )
    assert told["lost"] == []
    assert len(took) > 100
    # How fast, the line above tells: on a busy machine nobody is. Who waits for a slow client waits until the
    # limit cuts it off.
    assert slowest < HEADER_SECONDS
    # All three kinds were there at once, some seconds long.
    assert sum(held > 2 * CONNECTIONS for held in told["held"]) > 3, told["held"]


@both
def test_slow_clients_are_cut_off(told):
    cut = told["cut"]
    assert HEADER_SECONDS - 1 < cut["header"] < HEADER_SECONDS + NOTICE_SECONDS, cut
    assert BODY_SECONDS - 1 < cut["body"] < BODY_SECONDS + NOTICE_SECONDS, cut
    # Who does not read gets what was on its way, and not the rest of 20 MB.
    assert cut["reader"] < 15_000_000, cut
