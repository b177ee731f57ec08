"""Watch a unit start, and say why it did not."""

from __future__ import annotations

import time
from collections.abc import Iterator

from releasectl import clock, records, systemd
from releasectl.errors import Failed
from releasectl.systemd import UnitState

# The end of a traceback: what was raised, and the last calls on the way there.
TRACE_LINES = 8
# Of every import Python writes five lines that say nothing.
IMPORTING = '"<frozen importlib.'
# Between two looks at a start that nobody is told the end of. Visitors of a deploy wait for what it shows.
LONGEST_PAUSE_SECONDS = 0.1
# And at one that systemctl waits for: in case it waits in vain.
SELDOM_SECONDS = 1


class Crashed(Exception):
    """The unit ended before it was ready; in words for a person."""


class Start:
    """A start that is about to be asked for, and what is seen of it then."""

    def __init__(self, unit: str, before: str, seconds: float, leaving_seconds: float = 0) -> None:
        """Begin before the start is asked for.

        :param before: the unit's invocation until then.
        :param seconds: how long it may take to be ready, once begun.
        :param leaving_seconds: how long the process of before may take to leave.
        """
        self.unit, self.before, self.seconds = unit, before, seconds
        self.since, self.end = time.time(), time.monotonic() + leaving_seconds + seconds
        self.seen: set[str] = set()
        self.order: systemd.Order | None = None
        self.look_at = time.monotonic() + SELDOM_SECONDS

    def ask(self) -> None:
        """Ask systemd for it.

        :raises Failed: when there is no systemctl.
        """
        self.order = systemd.Order(self.unit)

    def pause(self, seconds: float) -> None:
        """Wait for so many seconds, less where systemctl comes to the start's end meanwhile."""
        if self.order is None:
            time.sleep(seconds)
        else:
            self.order.wait(seconds)

    def look_is_due(self) -> bool:
        """Whether a look may show what systemctl does not tell; the next one is due a while after."""
        now, pending = time.monotonic(), self.order is not None and self.order.pending
        if pending and now < min(self.look_at, self.end):
            return False
        self.look_at = now + SELDOM_SECONDS
        return True

    def look(self, state: UnitState | None = None) -> UnitState | None:
        """Return the unit's state, or nothing as long as the start has not begun.

        :param state: what systemd says of it now, where that was asked for already.
        :raises Crashed: at the first crash.
        """
        state = state or systemd.show(self.unit)
        begun = {state.invocation} - {"", self.before}
        if begun and not self.seen:
            self.end = time.monotonic() + self.seconds
        self.seen |= begun
        # A second invocation means that the first one crashed between two looks.
        again = len(self.seen) > 1
        if (self.seen and state.ended) or again or (state.active == "failed" and not state.has_job):
            raise Crashed(_crash_words(self.unit, state, again=again))
        if not self.seen and not state.has_job and self.order is not None and self.order.refusal:
            raise Crashed(f"{self.unit} did not start: {self.order.refusal}")
        return state if self.seen else None

    def see(self, state: UnitState | None = None) -> UnitState | None:
        """Return the unit's state, or nothing as long as the start has not begun; see :meth:`look`.

        :raises Failed: with the unit's last lines, when it crashed.
        """
        try:
            return self.look(state)
        except Crashed as crash:
            raise failure(self.unit, str(crash), self.since) from crash

    def ready(self, state: UnitState) -> bool:
        """Whether systemd says READY by now.

        :param state: what systemd says of the unit.
        :raises Failed: with the unit's last lines, when it crashed or its time is up.
        """
        state = self.see(state)
        if state is not None and state.running:
            return True
        if time.monotonic() > self.end:
            raise failure(self.unit, f"{self.unit} was not ready within {self.seconds:g} s", self.since)
        return False


def wait(starts: list[Start]) -> None:
    """Wait until all of several starts are ready, side by side, each with its own time limit.

    :raises Failed: at the first that fails.
    """

    def pause(seconds: float) -> None:
        starts[0].pause(seconds)

    for _ in clock.attempts(float("inf"), longest_pause=LONGEST_PAUSE_SECONDS, sleep=pause):
        due = [one for one in starts if one.look_is_due()]
        states = systemd.states(*(one.unit for one in due)) if due else []
        done = [one for one, state in zip(due, states, strict=True) if one.ready(state)]
        starts = [one for one in starts if one not in done]
        if not starts:
            return


def looks(start: Start) -> Iterator[UnitState]:
    """Yield a unit's state again and again, from the start that was asked for on, until the time is up.

    :raises Crashed: at the first crash.
    """
    for _ in clock.attempts(start.seconds, longest_pause=LONGEST_PAUSE_SECONDS, sleep=start.pause):
        state = start.look() if start.look_is_due() else None
        if state is not None:
            yield state


def before_start(state: UnitState) -> str:
    """Return the invocation that will not be the one to become ready when a unit is told to start now."""
    # One that is starting already will be ready without another invocation.
    return "" if state.active == "activating" and not state.ended else state.invocation


def left(unit: str, before: str) -> bool:
    """Whether a unit that is being restarted is done with the process it had.

    :param before: its invocation then.
    """
    state = systemd.show(unit)
    return state.invocation != before or state.active == "failed"


def failure(unit: str, cause: str, since: float, **evidence: object) -> Failed:
    """Return an error with what a unit's journal tells about it.

    :param since: from when on its journal is of interest, in seconds since the epoch.
    :param evidence: what else was seen.
    """
    lines = [part for line in systemd.journal(unit, since) for part in readable(line)]
    told = {"unit": unit, "journal": lines, **evidence}
    return Failed(cause, next_command=f"sudo journalctl -u {unit} -n 200", evidence=told)


def readable(line: str) -> list[str]:
    """Return a line of the journal as a person reads it: of JSON, what is said, and where a traceback ends.

    The whole of it stays where `next` leads.
    """
    told = records.parse(line)
    if told is None or "event" not in told:
        return [line]
    trace = [text for text in str(told.get("exception") or "").splitlines() if IMPORTING not in text]
    left = ["  …"] if len(trace) > TRACE_LINES else []
    return [records.words(told, but=["exception"]), *left, *(f"  {text}" for text in trace[-TRACE_LINES:])]


def _crash_words(unit: str, state: UnitState, *, again: bool) -> str:
    if again:
        # What systemd tells now is about the next attempt, not about the one that crashed.
        return f"{unit} crashed before it was ready, and systemd started it again"
    why = state.result if state.result != "success" else "it ended"
    return f"{unit} crashed before it was ready ({why}, exit status {state.exit_status})"
