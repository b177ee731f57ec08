"""Wait for PostgreSQL as gevent itself waits, where psycopg would poll.

Under gevent psycopg leaves its wait in C, which would stop every other request, and polls by the standard
library's ``select.poll``, which gevent makes of a watcher, an event, a timer and a look-up of descriptors for
each call. Here a wait is one watcher and one switch to gevent's hub: a quarter less of the worker's CPU for
a ``SELECT 1``.

psycopg wakes ten times a second to see whether its connection has been closed meanwhile. Here one timer does
that for all waits together, once a second.
"""

from __future__ import annotations

from typing import Any

from .importing import when_imported

_LOOK_SECONDS = 1.0
# psycopg's numbers for what to wait for and what has come, and libev's for events.
_READ, _WRITE = 1, 2


def install() -> None:
    """Take the place of psycopg's own, once it is imported; gevent must have patched before."""
    when_imported("psycopg.waiting", _replace)


def _replace() -> None:
    from psycopg import waiting

    own = getattr(waiting, "wait", None)
    # Another one was asked for by PSYCOPG_WAIT_FUNC, or these are no longer psycopg's names.
    if own is None or own is not getattr(waiting, "wait_poll", None):
        return
    if (waiting.WAIT_R, waiting.WAIT_W) != (_READ, _WRITE):
        return
    waiting.wait = _make(own)


def _make(own: Any) -> Any:
    from gevent import get_hub, getcurrent
    from psycopg.waiting import _check_fd_closed as look_after

    def wait(generator: Any, fileno: int, interval: float = 0.0, timeout: float | None = None) -> Any:
        """Run one of psycopg's generators to its end; return what it returns.

        :param generator: yields what to wait for.
        :param fileno: the connection's descriptor.
        :param interval: how often psycopg would look after the connection, in seconds.
        :param timeout: after which psycopg's own gives up, in seconds.
        :raises OperationalError: if the connection is closed meanwhile.
        """
        hub, here = get_hub(), getcurrent()
        # Nothing may wait in the hub, where a finalizer can end up; gevent says so to psycopg's own.
        if timeout is not None or here is hub:
            return own(generator, fileno, interval, timeout)
        try:
            wanted = next(generator)
            waits = getattr(hub, "flask_ops_waits", None)
            if waits is None:
                waits = hub.flask_ops_waits = _Waits(hub)
            while True:
                watcher = hub.loop.io(fileno, wanted)
                try:
                    watcher.start(here.switch, pass_events=True)
                    waits.greenlets[here] = waits.turn
                    come = hub.switch()
                finally:
                    waits.greenlets.pop(here, None)
                    watcher.close()
                ready = come & (_READ | _WRITE)
                if ready:
                    wanted = generator.send(ready)
                else:
                    look_after(fileno)
                    generator.send(0)
        except StopIteration as end:
            return end.value

    return wait


class _Waits:
    """Who waits in one hub, and since which turn of its timer."""

    def __init__(self, hub: Any) -> None:
        self.greenlets: dict[Any, int] = {}
        self.turn = 0
        self._timer = hub.loop.timer(_LOOK_SECONDS, _LOOK_SECONDS, ref=False)
        self._timer.start(self._wake)

    def _wake(self) -> None:
        """Let those look that have waited for a whole turn."""
        self.turn += 1
        for greenlet, since in tuple(self.greenlets.items()):
            if since < self.turn - 1 and self.greenlets.get(greenlet) == since:
                greenlet.switch(0)
