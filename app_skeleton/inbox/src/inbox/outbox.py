"""Send tasks beside the requests that cause them: no answer waits for a broker, whatever state it is in."""

from __future__ import annotations

import contextvars
import os
import queue
import threading
import time
from collections.abc import Callable

import structlog

#: So many wait at most in a process; what comes then is beat's to send.
WAITING_MAX = 1000
#: Then it is left to beat; below the time after which the domain has beat look for what nobody took.
KEEP_SECONDS = 25
#: A broker that comes back is noticed so soon.
AGAIN_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Outbox:
    """Calls to be made soon, one after the other, in a thread of each process that asks for any.

    The thread begins with the first call: one from before gunicorn forks would be missing in its workers.
    """

    def __init__(self) -> None:
        """Begin empty, without a thread."""
        self._lock = threading.Lock()
        self._process_id = 0
        self._waiting: queue.Queue[tuple[float, contextvars.Context, Callable[[], bool]]]

    def put(self, call: Callable[[], bool]) -> bool:
        """Have a call made soon, in a copy of this context; return whether there was room for it.

        :param call: returns whether it came to something; if not, it is made again for a while.
        """
        self._begin()
        try:
            self._waiting.put_nowait((time.monotonic() + KEEP_SECONDS, contextvars.copy_context(), call))
        except queue.Full:
            return False
        return True

    def _begin(self) -> None:
        if self._process_id == os.getpid():
            return
        with self._lock:
            if self._process_id != os.getpid():
                self._waiting = queue.Queue(WAITING_MAX)
                threading.Thread(target=self._run, name="outbox", daemon=True).start()
                self._process_id = os.getpid()

    def _run(self) -> None:
        while True:
            until, context, call = self._waiting.get()
            try:
                while time.monotonic() < until and not context.run(call):
                    time.sleep(AGAIN_SECONDS)
            except Exception:
                # The thread is the only one: the next task must still go.
                log.exception("task was not sent")
