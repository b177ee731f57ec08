"""Run one coroutine on an event loop of its own, in a native thread of a process that runs on gevent.

Imported at the first call of an async view: asyncio is some megabytes that most apps never need.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from time import monotonic
from typing import Any

from . import deadline
from .native import original

_ABSENT = object()


class Run(deadline.Guarded):
    """One call of an async view."""

    __slots__ = ("_call", "_cancelled", "_context", "_error", "_task", "_value")

    def __init__(self, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Take the context of the request along: its id, and Flask's ``request`` and ``g``."""
        super().__init__(None)
        self._call = call
        self._context: Context = copy_context()
        self._cancelled = False
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        self._error: BaseException | None = None
        self._value: Any = None

    def __call__(self) -> None:
        """Run to the end in this thread; never raise."""
        self.where = original("_thread", "get_ident")()
        deadline.running.add(self)
        try:
            try:
                # A second later than its request, whose end cancels it first.
                self.since = monotonic() + 1
                with asyncio.Runner(loop_factory=Loop) as runner:
                    self._value = runner.run(self._main(), context=self._context)
            finally:
                self.leave()
        except BaseException as error:
            self._error = error
        finally:
            deadline.running.discard(self)

    async def _main(self) -> Any:
        self._task = asyncio.get_running_loop(), asyncio.current_task()  # type: ignore[assignment]
        if self._cancelled:
            raise asyncio.CancelledError
        return await self._call()

    def cancel(self) -> None:
        """End it from another thread, at its next ``await``; the watchdog sees to one that has none."""
        self._cancelled = True
        if self._task:
            loop, task = self._task
            with suppress(RuntimeError):  # the loop may have ended meanwhile
                loop.call_soon_threadsafe(task.cancel)

    def result(self) -> Any:
        """Return what it returned or raise what it raised, and keep the context variables it set."""
        for var, value in self._context.items():
            if var.get(_ABSENT) is not value:
                var.set(value)
        if self._error is not None:
            raise self._error
        return self._value


deadline.entries.add(Run.__call__.__code__)


class Loop(asyncio.SelectorEventLoop):
    """An event loop that notices what another greenlet of its thread gives it.

    gevent turns the threads of ``run_in_executor`` into greenlets of this very thread. Since CPython 3.13.12
    a result from the loop's own thread does not wake the loop (gevent/gevent#2213).
    """

    def call_soon(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
        """Schedule a callback, and end the wait for events if that is where the loop is."""
        handle = super().call_soon(*args, **kwargs)
        if self._waiting:
            self._write_to_self()
        return handle

    def __init__(self) -> None:
        """Watch the selector's waits."""
        self._waiting = False
        super().__init__()
        select = self._selector.select

        def noted(timeout: float | None = None) -> Any:
            self._waiting = True
            try:
                return select(timeout)
            finally:
                self._waiting = False

        self._selector.select = noted
