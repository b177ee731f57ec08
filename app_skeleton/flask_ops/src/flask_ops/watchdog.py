"""Notice a request past its deadline and a gevent hub that does not run, from a thread of its own.

One native thread a worker, started after the fork, looks every second. It reaches a request by the way that
can reach it:

- a greenlet that waits: the hub raises :class:`~flask_ops.deadline.DeadlineExceeded` in it, as
  ``gevent.Timeout`` would, again and again until the request has ended. One sweep over all requests a
  second costs less than a timer for each.
- the main thread, which spins in a greenlet of gevent or runs the one request of a sync worker: a real-time
  signal, whose Python handler raises where the main thread is. gunicorn, gevent and profilers use none of
  those. It raises only in a greenlet whose request is overdue, or that is nobody's request and has held
  the hub for as long; never in the hub or in gunicorn's own greenlet.
- another thread: ``PyThreadState_SetAsyncExc``, which arrives with the next step of Python code. It calls no
  code at run time, so it works under ``MemoryDenyWriteExecute``.

The last two may strike between any two steps of the app, in the middle of a pool's bookkeeping for one, which
is why the worker is recycled afterwards: it takes nothing new and ends when its requests have.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from time import monotonic, process_time
from typing import Any

from . import deadline, rescue
from .deadline import DeadlineExceeded, Guarded, running
from .native import original, patched
from .rescue import say

#: A process that was stopped or starved for so long must not take that for a blocked hub.
_PAUSE_SECONDS = 1.0

_aim = ctypes.pythonapi.PyThreadState_SetAsyncExc


class Watchdog:
    """Watch one worker.

    :param worker: gunicorn's worker.
    :param seconds: the request deadline, 0 for none.
    :param blocked_seconds: how long a hub may not run before its stack is logged, 0 for ever.
    :param hub: gevent's hub, None in other worker classes.
    """

    def __init__(self, worker: Any, seconds: float, blocked_seconds: float, hub: Any = None) -> None:
        """Know the worker; :meth:`start` begins."""
        self._worker = worker
        self._seconds = seconds
        self._blocked_seconds = blocked_seconds if hub is not None else 0
        self._hub = hub
        self._patience = deadline.patience(seconds)
        limits = [limit for limit in (seconds, blocked_seconds) if limit]
        self._tick = min(1.0, min(limits, default=1.0) / 5)
        self._beat = monotonic()
        self._block_said = False
        self._first_signal = self._recycled = 0.0
        self._main = original("_thread", "get_ident")()
        self._lock = original("_thread", "allocate_lock")()
        # Looked for from the end: what is free there stays free.
        self._signal = next(
            number
            for number in range(signal.SIGRTMAX, signal.SIGRTMIN, -1)
            if signal.getsignal(number) == signal.SIG_DFL
        )

    def start(self) -> None:
        """Begin to watch, in the main thread of the worker."""
        here = original("_thread", "get_ident")
        if self._hub is not None:
            from greenlet import getcurrent as here

            self._timer = self._hub.loop.timer(self._tick, self._tick, ref=False)
            self._timer.start(self._hub_runs)
        signal.signal(self._signal, self._on_signal)
        deadline.enforce(self._seconds, here, self._take_back)
        original("_thread", "start_new_thread")(self._watch, ())

    # In the hub.

    def _hub_runs(self) -> None:
        self._beat = now = monotonic()
        # Here and nowhere else: a starved process forgives the hub its silence, in the same block as before.
        self._block_said = False
        if self._seconds:
            for guarded in tuple(running):
                since = guarded.since
                if since and now - since >= self._seconds and type(guarded.where) is not int:
                    self._hub.loop.run_callback(self._throw, guarded, since)

    def _throw(self, guarded: Guarded, since: float) -> None:
        # It may have ended in an earlier callback of the same round.
        if guarded.since == since:
            guarded.first = guarded.first or monotonic()
            guarded.where.throw(DeadlineExceeded())

    # In the main thread, wherever it is.

    def _on_signal(self, number: int, frame: Any) -> None:
        now = monotonic()
        if self._hub is None:
            victim = self._overdue(now, self._main)
        else:
            from greenlet import getcurrent

            current = getcurrent()
            if current is self._hub or current.parent is None:
                return
            victim = self._overdue(now, current)
            owner = any(guarded.where is current for guarded in tuple(running))
            if victim is None and (owner or now - self._beat < self._seconds):
                return
        if victim is not None:
            victim.first = victim.first or now
        elif self._hub is None:
            return
        self._recycle()
        raise DeadlineExceeded

    def _overdue(self, now: float, where: Any) -> Guarded | None:
        for guarded in tuple(running):
            since = guarded.since
            if guarded.where == where and since and now - since >= self._seconds:
                return guarded
        return None

    # In the watchdog's thread. Nothing here may wait for a lock that the main thread could hold.

    def _watch(self) -> None:
        sleep = original("time", "sleep")
        expected, worked = monotonic() + self._tick, process_time()
        while True:
            sleep(self._tick)
            now = monotonic()
            late = now - expected
            if late > _PAUSE_SECONDS and process_time() - worked < late / 2:
                self._beat = now
            expected, worked = now + self._tick, process_time()
            try:
                self._look(now)
            except Exception:
                say("the watchdog failed", exception=traceback.format_exc())

    def _look(self, now: float) -> None:
        if self._hub is not None:
            self._look_at_hub(now)
        for guarded in tuple(running):
            since = guarded.since
            if self._seconds and since and now - since >= self._seconds:
                self._look_at(guarded, since, now)
        if self._recycled:
            self._end_if_idle(now)

    def _look_at_hub(self, now: float) -> None:
        blocked = now - self._beat
        if self._blocked_seconds and blocked >= self._blocked_seconds and not self._block_said:
            self._block_said = True
            self._say_stack(
                "the gevent hub is blocked", self._current(), self._main, seconds=round(blocked, 1)
            )
        if not self._seconds or blocked < 2 * self._tick:
            self._first_signal = 0.0
            return
        current = self._current()
        if blocked < self._seconds and (current is None or now - current.since < self._seconds):
            return
        self._first_signal = self._first_signal or now
        if current is not None:
            current.first = current.first or now
        self._signal_or_end(current, self._first_signal, now)

    def _current(self) -> Guarded | None:
        """Return the request whose greenlet runs: a greenlet that does not run has a frame to resume at."""
        for guarded in tuple(running):
            if guarded.since and type(guarded.where) is not int and guarded.where.gr_frame is None:
                return guarded
        return None

    def _look_at(self, guarded: Guarded, since: float, now: float) -> None:
        if guarded.where == self._main:
            guarded.first = guarded.first or now
            self._signal_or_end(guarded, guarded.first, now)
            return
        guarded.first = guarded.first or now
        if type(guarded.where) is int and _in_app(guarded.where):
            self._interrupt_thread(guarded, since)
        if guarded.since != since:
            guarded.first = 0.0
        elif now - guarded.first >= self._patience and not guarded.given_up:
            blocked = type(guarded.where) is not int and now - self._beat >= self._patience
            # Of a blocked hub another part takes care; this request may be waiting for its turn to end.
            if not blocked:
                self._give_up(guarded)

    def _signal_or_end(self, guarded: Guarded | None, first: float, now: float) -> None:
        if now - first < self._patience:
            signal.pthread_kill(self._main, self._signal)
            return
        self._say_stack("worker ended: it cannot be interrupted", guarded, self._main, lost=len(running))
        for lost in tuple(running):
            rescue.answer(lost)
        os._exit(1)

    def _interrupt_thread(self, guarded: Guarded, since: float) -> None:
        with self._lock:
            # `first` is set, so from here on it cannot leave the app without taking this back.
            if guarded.since == since:
                self._recycle()
                _aim(ctypes.c_ulong(guarded.where), ctypes.py_object(DeadlineExceeded))

    def _take_back(self, guarded: Guarded) -> None:
        """In the thread of the request: nothing may strike it once it has left the app."""
        # The block, if it was one, ends here: what comes now is not the app's any more.
        self._beat = monotonic()
        with self._lock:
            guarded.first = 0.0
            if type(guarded.where) is int and guarded.where != self._main:
                _aim(ctypes.c_ulong(guarded.where), None)

    def _give_up(self, guarded: Guarded) -> None:
        guarded.given_up = True
        self._say_stack("request given up: it does not end", guarded, guarded.where)
        rescue.answer(guarded)
        self._recycle()

    def _recycle(self) -> None:
        if not self._recycled:
            self._recycled = monotonic()
            say("worker is recycled: its code was interrupted", level="warning")
            # As gunicorn does it itself at max_requests.
            self._worker.alive = False

    def _end_if_idle(self, now: float) -> None:
        """End a worker that only lost threads keep alive: the interpreter would wait for them for ever."""
        lost = sum(guarded.given_up for guarded in tuple(running))
        connections = getattr(self._worker, "nr_conns", None)
        idle = lost and connections is not None and connections <= lost and now - self._recycled > 2
        too_long = now - self._recycled > self._worker.cfg.graceful_timeout + self._patience
        if idle or too_long:
            say("worker ended: it is recycled", lost=lost)
            os._exit(0)

    def _say_stack(self, event: str, guarded: Guarded | None, where: Any, **fields: Any) -> None:
        frame = sys._current_frames().get(where) if type(where) is int else where.gr_frame
        stack = "".join(traceback.format_stack(frame)) if frame else ""
        say(event, **rescue.described(guarded), **fields, stack=stack)


def _in_app(thread: int) -> bool:
    """Return whether a thread runs what is guarded, rather than the hub that gevent gives each thread."""
    frame = sys._current_frames().get(thread)
    while frame is not None and frame.f_code not in deadline.entries:
        frame = frame.f_back
    return frame is not None


def start(worker: Any) -> None:
    """Watch a worker, as the settings say.

    Call after the fork and in the worker's main thread (gunicorn's ``post_worker_init``).

    :param worker: gunicorn's worker.
    """
    seconds, blocked = deadline.settings(lambda get, *setting: get(*setting))
    hub = None
    if patched():
        from gevent import get_hub

        hub = get_hub()
    if seconds or (blocked and hub is not None):
        deadline.on_timeout[:] = [rescue.counter().inc]
        Watchdog(worker, seconds, blocked, hub).start()
