"""Start, watch, drain and stop the instance of one release."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

from releasectl import clock, probe, starting, systemd, units
from releasectl.errors import Failed
from releasectl.host import Host
from releasectl.probe import Answer
from releasectl.starting import Start
from releasectl.systemd import UnitState

RELEASECTL = "/usr/local/sbin/releasectl"
# In /proc/net/unix: the mark of a listening socket.
LISTENING = 0x10000
# The one that crashed, and the one that systemd starts in its place.
RUNS_AFTER_A_CRASH = 2
# So much of the journal tells why a process ended that was well a moment ago.
LATELY_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Process:
    """One run of an instance, told from the next one by systemd's invocation."""

    host: Host
    release_id: str
    invocation: str

    def require_alive(self) -> None:
        """See that it is still the one that runs: after a crash systemd starts another, which may answer too.

        :raises Failed: with the unit's last lines.
        """
        unit = self.host.service(self.release_id)
        state = systemd.show(unit)
        if not state.running or state.invocation != self.invocation:
            why = f"{state.result}, exit status {state.exit_status}"
            since = time.time() - LATELY_SECONDS
            raise failure(self.host, self.release_id, f"{unit} crashed after it was ready ({why})", since)


def process(host: Host, release_id: str) -> Process:
    """Return the run of a release's instance that goes on now."""
    return Process(host, release_id, systemd.show(host.service(release_id)).invocation)


def bring_up(host: Host, release_id: str) -> None:
    """Start a release that gets no traffic yet, and wait until it may get some; see :func:`begin`.

    :raises Failed: with the last health answer and the unit's last lines.
    """
    begun = begin(host, release_id)
    if begun is not None:
        wait_ready(host, release_id, begun)


def begin(host: Host, release_id: str) -> Start | None:
    """Ask for the start of a release that gets no traffic yet; return it, nothing where none is needed.

    One that was kept warm is ready already. What a killed run left of it is stopped first: it may run with
    settings that have changed since.

    :raises Failed: with the unit's last lines, when its socket does not start.
    """
    if is_warm(host, release_id):
        host.out.progress(f"{release_id} was kept warm")
        host.layout.warm_file(release_id).unlink(missing_ok=True)
        return None
    states = systemd.states(*_pair(host, release_id))
    if not all(state.down for state in states):
        host.out.progress(f"{release_id} already runs without traffic, left by a stopped run: stopping it")
        retire(host, release_id)
        states = systemd.states(*_pair(host, release_id))
    return _begin(host, release_id, *states)


def is_warm(host: Host, release_id: str) -> bool:
    """Whether an instance without traffic was kept, and is ready to have some."""
    if (
        host.layout.warm_until(release_id) <= time.time()
        or not systemd.show(host.service(release_id)).running
    ):
        return False
    return probe.instance(host.layout.socket(release_id), host.settings.ops_prefix).ready(release_id)


def keep_warm(host: Host, release_id: str) -> list[str]:
    """Let an instance that was left end its connections and go on without traffic; return remarks.

    It stops by itself once its time is over.
    """
    left = drain(host, release_id)
    host.layout.drain_file(release_id).unlink(missing_ok=True)
    seconds, app = host.settings.warm_seconds, host.settings.app
    until = time.time() + seconds
    host.layout.warm_file(release_id).write_text(f"{until:.0f}\n")
    words = [RELEASECTL, "--app", app, "cool"]
    # A little later: the command stops what is over.
    scheduled = systemd.run_later(f"{app}-cool-{until:.0f}", seconds + 2, words)
    remarks = [f"{left} connections to {release_id} were still open after the drain"] if left else []
    if not scheduled:
        remarks.append(f"nobody will stop {release_id} when its time is over: {host.command('cool')}")
    return remarks


def start(host: Host, release_id: str) -> None:
    """Start a release's socket and service and wait until it is ready.

    :raises Failed: with the last health answer and the unit's last lines.
    """
    states = systemd.states(*_pair(host, release_id))
    wait_ready(host, release_id, _begin(host, release_id, *states))


def _begin(host: Host, release_id: str, held: UnitState, state: UnitState) -> Start:
    """Ask for the start of a release's socket and service; return it.

    :param held: what systemd says of the socket.
    :param state: and of the service.
    :raises Failed: with the unit's last lines, when the socket does not start.
    """
    unit = host.service(release_id)
    begun = Start(unit, starting.before_start(state), host.settings.start_timeout_seconds)
    host.layout.drain_file(release_id).unlink(missing_ok=True)
    if "failed" in (held.active, state.active):
        systemd.reset_failed(*_pair(host, release_id))
    host.out.progress(f"starting {unit}")
    if not held.running and not systemd.start(host.socket(release_id)):
        raise failure(host, release_id, f"{host.socket(release_id)} did not start", begun.since)
    begun.ask()
    return begun


def wait_ready(host: Host, release_id: str, begun: Start) -> Process:
    """Wait until systemd says READY and `/readyz` says that this release is; return what runs then.

    :param begun: its start, which was asked for.
    :raises Failed: at the first crash, or when `start_timeout_seconds` have passed.
    """
    limit = begun.seconds
    host.out.progress(f"waiting for {begun.unit} to be ready, {limit:g} s at most")
    answer = Answer(None, {}, "")
    try:
        for state in starting.looks(begun):
            if state.running:
                answer = probe.instance(host.layout.socket(release_id), host.settings.ops_prefix)
                if answer.ready(release_id):
                    return Process(host, release_id, state.invocation)
    except starting.Crashed as crash:
        raise failure(host, release_id, str(crash), begun.since, answer) from crash
    cause = f"{release_id} was not ready within {limit:g} s"
    raise failure(host, release_id, cause, begun.since, answer)


def failure(host: Host, release_id: str, cause: str, since: float, answer: Answer | None = None) -> Failed:
    """Return an error with all that is known about why an instance does not serve.

    :param since: from when on its journal is of interest, in seconds since the epoch.
    """
    health = {"health": str(answer)} if answer is not None and str(answer) else {}
    return starting.failure(host.service(release_id), cause, since, **health)


def retire(host: Host, release_id: str, *, wait: bool = True) -> list[str]:
    """Drain an instance that gets no new traffic, and stop it; return remarks worth telling.

    Repeatable: what is stopped already stays so.

    :param wait: see it stopped. Without, nobody waits for the end of an instance without connections:
        gunicorn takes a second or two to leave, with nobody left to serve.
    """
    left = drain(host, release_id)
    if not left and not wait:
        systemd.stop_soon(*_pair(host, release_id))
        for mark in (host.layout.drain_file(release_id), host.layout.warm_file(release_id)):
            mark.unlink(missing_ok=True)
        return []
    remarks = [f"{left} connections to {release_id} were still open after the drain"] if left else []
    if not take_down(host, release_id):
        remarks.append(f"{host.service(release_id)} is still stopping: releasectl status")
    return remarks


def drain(host: Host, release_id: str) -> int:
    """Have an instance end its connections; return how many are left when the time is up.

    One that has crashed is given another start: who came meanwhile waits in its socket's queue, which systemd
    holds, and would be turned away when the socket is stopped.

    :raises OSError: when the drain file cannot be made.
    """
    path = host.layout.socket(release_id)
    if not connections(path):
        return 0
    host.layout.drain_file(release_id).touch()
    limit = host.settings.drain_timeout_seconds
    host.out.progress(f"draining {release_id}: {connections(path)} connections, {limit:g} s at most")
    unit, runs = host.service(release_id), set()

    def over() -> bool:
        if not connections(path):
            return True
        state = systemd.show(unit)
        runs.add(state.invocation)
        # Nobody ends the connections of a service that is down, or crashes again and again.
        return state.down or len(runs) > RUNS_AFTER_A_CRASH

    clock.until(limit, over)
    return connections(path)


def connections(path: Path) -> int:
    """Count the connections to a listening socket, those in its queue among them.

    Each line of /proc/net/unix names the path its socket was bound to; an accepted socket carries the
    listener's, and so does one that waits to be accepted.
    """
    lines = (line.split() for line in Path("/proc/net/unix").read_text().splitlines())
    flags = [int(words[3], 16) for words in lines if len(words) == 8 and words[7] == str(path)]
    return sum(1 for flag in flags if not flag & LISTENING)


def take_down(host: Host, release_id: str) -> bool:
    """Stop an instance, socket and service; return whether both are down.

    The socket first. Stopped last, it would answer one stray connection by starting the service again.
    Stopped first, its path goes, nobody new can come, and gunicorn, which holds the same socket, still
    answers who waits in the queue. Where the service `Requires=` the socket, systemd stops both in this
    one call, the service before the socket, and starts nothing for a socket that is to be stopped.
    """
    limit = host.settings.stop_timeout_seconds
    host.layout.warm_file(release_id).unlink(missing_ok=True)
    for unit in _pair(host, release_id):
        systemd.stop(unit, limit)
    systemd.reset_failed(*_pair(host, release_id))
    host.layout.drain_file(release_id).unlink(missing_ok=True)
    return is_down(host, release_id)


def is_down(host: Host, release_id: str) -> bool:
    """Whether neither the socket nor the service runs or is about to."""
    return all(state.down for state in systemd.states(*_pair(host, release_id)))


def restart(host: Host, release_id: str) -> None:
    """Start an instance afresh under its traffic, without losing a request.

    Its socket stays open all the while, so who comes meanwhile waits in the queue. Draining first makes
    the wait short: a connection that nginx keeps open and idle would hold the old process back.

    :raises Failed: when the fresh one does not become ready.
    """
    unit, limit = host.service(release_id), host.settings.start_timeout_seconds
    drain_file = host.layout.drain_file(release_id)
    try:
        drain_file.touch()
        host.out.progress(f"letting kept connections end, {host.settings.idle_close_seconds:g} s")
        time.sleep(host.settings.idle_close_seconds)
    finally:
        # Gone before the restart is even asked for: the fresh process must never see it. The old one has
        # told every worker by now, and after SIGTERM gunicorn keeps no connection anyway.
        drain_file.unlink(missing_ok=True)
    systemd.reset_failed(*_pair(host, release_id))
    host.out.progress(f"restarting {unit}")
    # Not earlier: the restart that a killed run asked for may have gone on meanwhile.
    begun = Start(unit, systemd.show(unit).invocation, limit)
    systemd.restart_soon(unit)
    # The old process may take its whole graceful time before the fresh one is even begun.
    clock.until(host.settings.stop_timeout_seconds, lambda: starting.left(unit, begun.before))
    wait_ready(host, release_id, begun)


def _pair(host: Host, release_id: str) -> list[str]:
    return units.pair(host.settings.app, release_id)
