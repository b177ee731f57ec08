"""Signed webhooks at a steady rate on kept connections, each answer timed."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass

from relaying import Inbox, new_id
from testbed.webhooks import HOOK, body_of

THREADS = 16
"""So many that one slow answer does not keep the next webhook from being sent in time."""
LIMIT_SECONDS = 120
SHOWN = 10


@dataclass(frozen=True)
class Taken:
    """One webhook and its answer.

    :param status: the answer's HTTP status, 0 where there was none.
    :param words: what came instead of "accepted".
    """

    delivery_id: str
    status: int
    seconds: float
    words: str = ""


class Stream:
    """Webhooks of one event, `rate` a second, until told to stop; at most for `LIMIT_SECONDS`.

    Used as a context manager, it is complete at the end of the block.
    """

    def __init__(self, inbox: Inbox, event: str, *, rate: float) -> None:
        """Prepare it."""
        self.inbox = inbox
        self.event = event
        self.interval_seconds = THREADS / rate
        self.taken: list[Taken] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"stream-{number}", daemon=True)
            for number in range(THREADS)
        ]

    def __enter__(self) -> Stream:
        """Begin."""
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop, and wait for what is on its way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads), "the stream does not stop"

    @property
    def failures(self) -> list[Taken]:
        """What was not taken."""
        return [one for one in self.taken if one.words]

    @property
    def seconds(self) -> list[float]:
        """How long the answers took, the shortest first."""
        return sorted(one.seconds for one in self.taken)

    def percentile(self, share: float) -> float:
        """Return how many seconds a share of the answers took at most."""
        return self.seconds[min(len(self.taken) - 1, int(share * len(self.taken)))]

    @property
    def words(self) -> str:
        """All of it, for a person."""
        shares = ", ".join(
            f"p{100 * share:g} {1000 * self.percentile(share):.0f} ms" for share in (0.5, 0.9, 0.99)
        )
        return (
            f"{len(self.taken)} webhooks: {shares}, slowest {1000 * self.seconds[-1]:.0f} ms; "
            f"{len(self.failures)} not taken {self.failures[:SHOWN]}"
        )

    def _run(self, number: int) -> None:
        context = self.inbox.app.web.context()
        connection = self.inbox.app.web.connection(context)
        # Threads begin at different moments, so that webhooks come evenly.
        due = self._began + number * self.interval_seconds / THREADS
        while not self._stop.wait(max(0.0, due - time.monotonic())) and due < self._began + LIMIT_SECONDS:
            due += self.interval_seconds
            self.taken.append(self._send(connection))
        connection.close()

    def _send(self, connection: http.client.HTTPConnection) -> Taken:
        delivery_id = new_id()
        body = body_of(delivery_id)
        headers = self.inbox.sender.headers(delivery_id, body, self.event)
        headers["Host"] = self.inbox.app.web.host_header
        began = time.monotonic()
        try:
            if connection.sock is None:
                # The handshake is the client's affair.
                connection.connect()
                began = time.monotonic()
            connection.request("POST", HOOK, body=body, headers=headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return Taken(delivery_id, 0, time.monotonic() - began, repr(error))
        seconds = time.monotonic() - began
        right = response.status == 202 and json.loads(text)["status"] == "accepted"
        return Taken(delivery_id, response.status, seconds, "" if right else text[:200].decode())
