"""Turn the signals that ask the program to stop into one exception at a moment of its choosing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from releasectl.errors import Interrupted


class Signals:
    """Raise `Interrupted` for the first SIGTERM or SIGINT, unless shielded.

    Only the first one raises: the second would break into the cleaning up that the first began.
    """

    def __init__(self) -> None:
        """Begin with nothing received."""
        self._shields = 0
        self._received = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle signals inside the block, as the process did before outside of it."""
        before = {number: signal.signal(number, self._handle) for number in (signal.SIGTERM, signal.SIGINT)}
        # A lost SSH connection must not stop half way what it began.
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Let the block run to its end whatever signal comes (SIGKILL excepted)."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1

    def hold(self) -> None:
        """Let no signal interrupt from here on: what is left is to finish, or to put back."""
        self._shields += 1

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._received or self._shields:
            return
        self._received = True
        raise Interrupted(f"stopped by {signal.Signals(number).name}")
