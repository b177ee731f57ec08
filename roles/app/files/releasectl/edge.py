"""See which release the world gets through nginx."""

from __future__ import annotations

import time

from releasectl import clock, instance, probe, systemd
from releasectl.config import Edge
from releasectl.host import Host

ANSWERS_IN_A_ROW = 3
# Answers that name no release at all (502, no answer) for so long: visitors see them too, switch back.
BLIND_SECONDS = 5
PAUSE_SECONDS = 0.03


def see(host: Host, process: instance.Process) -> None:
    """Wait until nobody but the new release answers through nginx.

    :param process: that of its instance.
    :raises Failed: when that does not come about in time.
    """
    edge = host.settings.edge
    if edge is None:
        return
    release_id = process.release_id
    host.out.progress(f"looking for {release_id} at {edge.url}")
    since = time.time()
    in_a_row, named_at = 0, time.monotonic()
    for _ in clock.attempts(host.settings.edge_timeout_seconds, PAUSE_SECONDS, PAUSE_SECONDS):
        answer = probe.edge(edge)
        good = answer.status == 200 and answer.release == release_id
        in_a_row = in_a_row + 1 if good else 0
        if in_a_row == ANSWERS_IN_A_ROW:
            return
        named_at = time.monotonic() if answer.release else named_at
        problem = "" if good else _hopeless(process, time.monotonic() - named_at)
        if problem:
            raise instance.failure(host, release_id, problem, since, answer)
    raise instance.failure(host, release_id, _words(host, release_id, edge), since, answer)


def _hopeless(process: instance.Process, blind_seconds: float) -> str:
    """Return why there is no use in asking the edge again, empty when there is."""
    unit = process.host.service(process.release_id)
    state = systemd.show(unit)
    if not state.running or state.invocation != process.invocation:
        return f"{unit} crashed as soon as it got traffic ({state.result})"
    if blind_seconds > BLIND_SECONDS:
        return f"no release answered through nginx for {BLIND_SECONDS} s"
    return ""


def _words(host: Host, release_id: str, edge: Edge) -> str:
    limit = host.settings.edge_timeout_seconds
    return f"{edge.url} did not answer as {release_id} {ANSWERS_IN_A_ROW} times in a row within {limit:g} s"
