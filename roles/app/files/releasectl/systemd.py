"""Every call of systemctl and journalctl, and what systemd says of a unit."""

from __future__ import annotations

import dataclasses
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from releasectl import records
from releasectl.errors import Failed

# For questions and for orders that systemd carries out at once.
ANSWER_SECONDS = 30
# Where `systemctl enable` makes its links.
UNIT_DIR = Path("/etc/systemd/system")
PROPERTIES = "Id,ActiveState,SubState,Result,InvocationID,ExecMainStatus,Job"
JOURNAL_FORM = ["--output", "cat", "--lines", "20", "--no-pager", "--quiet"]


@dataclasses.dataclass(frozen=True)
class UnitState:
    """What systemd says of a unit at one moment.

    :param active: `active`, `activating`, `deactivating`, `inactive`, `failed`.
    :param sub: the finer word: `running`, `start`, `auto-restart`, `dead`.
    :param result: `success`, or why it ended: `exit-code`, `timeout`, `signal`.
    :param invocation: an id that changes with each start.
    :param exit_status: the main process's exit status, or the number of the signal that ended it.
    :param has_job: whether systemd still has something to do with it.
    """

    active: str
    sub: str
    result: str
    invocation: str
    exit_status: str
    has_job: bool

    @property
    def running(self) -> bool:
        """Whether it is up."""
        return self.active == "active"

    @property
    def ended(self) -> bool:
        """Whether its start failed: what systemd tries again by itself counts as failed too."""
        idle = self.active == "inactive" and not self.has_job
        return self.active == "failed" or self.sub.startswith("auto-restart") or idle

    @property
    def coming(self) -> bool:
        """Whether it is on its way up for the first time, or will be once its last process has left."""
        starting = self.active == "activating" and not self.sub.startswith("auto-restart")
        return starting or (self.active == "deactivating" and self.has_job)

    @property
    def down(self) -> bool:
        """Whether nothing of it is left to stop, not even a restart to come."""
        return self.active in ("inactive", "failed")


#: Of a unit that systemd does not have in memory.
INACTIVE = UnitState("inactive", "dead", "success", "", "0", has_job=False)


def show(unit: str) -> UnitState:
    """Ask for a unit's state.

    :raises Failed: when systemd does not answer.
    """
    return states(unit)[0]


def states(*names: str) -> list[UnitState]:
    """Ask for the states of several units in one call.

    :raises Failed: when systemd does not answer for each of them.
    """
    told = _shown(*names)
    if len(told) != len(names):
        raise Failed(f"systemd does not tell the state of {', '.join(names)}")
    return [_state(one) for one in told]


def matching(*patterns: str) -> dict[str, UnitState]:
    """Ask for the units that are up, on their way, or failed; return their states by name.

    :param patterns: globs over names.
    :raises Failed: when systemd does not answer.
    """
    found = {one["Id"]: _state(one) for one in _shown(*patterns)}
    there = [name for name, state in found.items() if state.active != "inactive" or state.has_job]
    return {name: found[name] for name in sorted(there)}


def _shown(*names: str) -> list[dict[str, str]]:
    """Return what systemd shows of units, in the order of their names; of a pattern, those in its memory."""
    done = _systemctl("show", "--property", PROPERTIES, *names)
    # One block of lines a unit, an empty line between two.
    blocks = [block for block in done.stdout.strip("\n").split("\n\n") if block]
    told = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]
    if done.returncode != 0 or not all("ActiveState" in one for one in told):
        why = done.stderr.strip() or f"systemctl exited {done.returncode} without a word"
        raise Failed(f"systemd does not tell the state of {', '.join(names)}: {why}")
    return told


def _state(told: dict[str, str]) -> UnitState:
    return UnitState(
        active=told.get("ActiveState", "unknown"),
        sub=told.get("SubState", ""),
        result=told.get("Result", ""),
        invocation=told.get("InvocationID", ""),
        exit_status=told.get("ExecMainStatus", ""),
        has_job=told.get("Job", "") not in ("", "0"),
    )


def start(unit: str, seconds: float = ANSWER_SECONDS) -> bool:
    """Start a unit and wait for the outcome; return whether it came up.

    :param seconds: the longest wait. systemctl returns at the first failure even where the unit has
        `Restart=`, but a start that hangs is bounded only by the unit's own limits.
    """
    return _try("start", unit, seconds=seconds)


def start_soon(*names: str) -> None:
    """Ask for starts and return: the caller watches the states, so that it can be interrupted.

    :raises Failed: when systemd refuses.
    """
    _systemctl("start", "--no-block", *names, check=True)


class Order:
    """A start that was asked for, and goes on until the unit is up or its first attempt has failed.

    Waiting for it costs nothing, where a look at the state takes a process of its own from the very processor
    that the unit starts on.
    """

    def __init__(self, unit: str) -> None:
        """Ask for the start.

        :raises Failed: when there is no systemctl.
        """
        try:
            self._process = subprocess.Popen(
                ["systemctl", "start", unit],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise Failed(f"`systemctl start {unit}` did not answer: {error}") from error
        self._said: str | None = None
        _orders.append(self)

    @property
    def pending(self) -> bool:
        """Whether systemd is still at it."""
        return self._process.poll() is None

    @property
    def refusal(self) -> str:
        """What systemctl said where it failed; empty while it is pending, succeeded, or was let go."""
        code = self._process.poll() or 0
        if code <= 0:
            return ""
        self._hear(ANSWER_SECONDS)
        return (self._said or "").strip() or f"systemctl exited {code}"

    def wait(self, seconds: float) -> None:
        """Wait for so many seconds, less where it comes to its end meanwhile."""
        if self.pending:
            self._hear(seconds)
        else:
            time.sleep(seconds)

    def let_go(self) -> None:
        """Wait no longer. What systemd has heard of goes on; what it has not will not reach it any more."""
        if self.pending:
            self._process.kill()
        self._hear(ANSWER_SECONDS)

    def _hear(self, seconds: float) -> None:
        """Wait for systemctl's end and what it said; to ask for that twice is an error."""
        if self._said is None:
            with suppress(subprocess.TimeoutExpired):
                self._said = self._process.communicate(timeout=seconds)[1]


_orders: list[Order] = []


def let_orders_go() -> None:
    """See that no start comes after the stop that is to follow it."""
    while _orders:
        _orders.pop().let_go()


def restart_soon(unit: str) -> None:
    """Ask for a restart and return.

    :raises Failed: when systemd refuses.
    """
    _systemctl("restart", "--no-block", unit, check=True)


def stop(unit: str, seconds: float) -> bool:
    """Stop a unit; return whether it is down within so many seconds."""
    let_orders_go()
    return _try("stop", unit, seconds=seconds)


def stop_soon(*names: str) -> None:
    """Ask for a stop and return: systemd sees it through, with the units' own time limit.

    :raises Failed: when systemd refuses.
    """
    let_orders_go()
    _systemctl("stop", "--no-block", *names, check=True)


def run_later(unit: str, seconds: float, words: list[str]) -> bool:
    """Have systemd run a command once, later; return whether it will.

    :param unit: a name that no unit has.
    """
    # Again until it succeeds: something else may have the lock just then.
    again = ["--property=Restart=on-failure", "--property=RestartSec=20s"]
    command = ["systemd-run", "--quiet", "--collect", f"--unit={unit}", f"--on-active={seconds:g}s", *again]
    try:
        return _run([*command, *words], ANSWER_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def run_aside(unit: str, words: list[str]) -> None:
    """Have systemd run a command while nobody waits and nothing else wants the processor.

    :param unit: a name for it; one of that name that still runs is left to it.
    """
    command = ["systemd-run", "--quiet", "--collect", "--no-block", f"--unit={unit}", "--nice=19"]
    with suppress(OSError, subprocess.TimeoutExpired):
        _run([*command, *words], ANSWER_SECONDS)


def reset_failed(*names: str) -> None:
    """Forget units' failures and their count of starts, so that the next start is not refused."""
    # Answers 1 for a unit that systemd no longer has in memory: there is nothing to forget then.
    _systemctl("reset-failed", *names)


def enable(names: list[str]) -> None:
    """Have units started at boot.

    :raises Failed: when systemd refuses.
    """
    # Without the reload: only the next boot reads these links, and a reload costs 0.2 s here.
    _systemctl("enable", "--quiet", "--no-reload", *names, check=True)


def disable(names: list[str]) -> None:
    """No longer have units started at boot; systemd forgets them when it reads its units the next time.

    :raises Failed: when systemd refuses.
    """
    _systemctl("disable", "--quiet", "--no-reload", *names, check=True)


def enabled(names: Iterable[str]) -> list[str]:
    """Return those of the units that are started at boot.

    By the links that a boot goes by: to ask systemctl takes 3 ms for each of them.
    """
    linked = {link.name for link in UNIT_DIR.glob("*.wants/*@*")}
    return [name for name in names if name in linked]


def journal(unit: str, since: float) -> list[str]:
    """Return the last lines of a unit's journal, oldest first; none when it cannot be read.

    :param since: seconds since the epoch.
    """
    try:
        # What a crashing process wrote last may still be on its way.
        _run(["journalctl", "--sync"], 5)
        told = _run(
            ["journalctl", "--unit", unit, "--since", f"@{int(since)}", *JOURNAL_FORM], ANSWER_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return told.stdout.splitlines()


def journal_entries(matches: list[str], since: float, until: float, pattern: str = "") -> Iterator[dict]:
    """Yield the journal's entries, the newest first, until nobody wants more.

    :param matches: which, in journalctl's words.
    :param since: seconds since the epoch; so is `until`.
    :param pattern: what the message must hold, none for all.
    :raises Failed: when the journal cannot be read, or not within half a minute: after those there were.
    """
    words = [f"--since=@{since:.6f}", f"--until=@{until:.6f}", "--reverse", "--all", "--output=json"]
    words += ["--output-fields=MESSAGE,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,N_DROPPED", "--no-pager", "--quiet"]
    words += [f"--grep={pattern}", "--case-sensitive=yes"] if pattern else []
    with tempfile.TemporaryFile() as errors:
        reading = subprocess.Popen(
            ["journalctl", *words, *matches], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
        )
        # A search that finds nothing says nothing either, so it is not for the reader to look at the clock.
        limit = threading.Timer(ANSWER_SECONDS, reading.kill)
        limit.start()
        try:
            yield from (entry for line in reading.stdout if (entry := records.parse(line)))
            code = reading.wait()
        finally:
            # Also where the reader has enough.
            limit.cancel()
            reading.kill()
            reading.stdout.close()
            reading.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if code < 0:
        raise Failed(f"journalctl was not through after {ANSWER_SECONDS} s")
    # 1 without a word: nothing was found.
    if code and said:
        raise Failed(said)


def _try(verb: str, unit: str, seconds: float) -> bool:
    try:
        return _run(["systemctl", verb, unit], seconds).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _systemctl(*words: str, check: bool = False) -> subprocess.CompletedProcess[str]:
    command = ["systemctl", *words]
    try:
        done = _run(command, ANSWER_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"`{' '.join(command)}` did not answer: {error}") from error
    if check and done.returncode != 0:
        raise Failed(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
    return done


def _run(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    # A session of its own: Ctrl-C at the terminal is for this program to answer, not for a systemctl
    # that would then give up waiting while the unit goes on.
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
        start_new_session=True,
    )
