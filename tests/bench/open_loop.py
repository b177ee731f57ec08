"""Requests that come at their time, whether or not those before are answered, over kept TLS connections.

A closed loop sends less while the server is slow, and hides how long clients wait ("coordinated omission").
Here each request has a time at which it is due, and its wait counts from there, the time it waits for a free
connection included. The times are those of a Poisson process, as many clients that know nothing of each other
make them.
"""

from __future__ import annotations

import random
import select
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

#: After the last request is due.
PATIENCE_SECONDS = 10
_RECEIVED_AT_ONCE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of the requests.

    :param waits: microseconds from when a request was due until its whole answer was there.
    :param sent: how many requests were sent or due.
    :param bad: answers other than 200.
    :param seconds: from the first request until the last answer.
    """

    waits: list[int]
    sent: int
    bad: int
    seconds: float


def request(path: str, body: bytes | None = None, content_type: str = "") -> bytes:
    """Return a request's bytes: GET, or POST where it has a body."""
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if body is None:
        return f"{head}\r\n".encode()
    return f"{head}Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def arrivals(rate: float, seconds: float, seed: int = 0) -> list[float]:
    """Return when requests are due, in seconds from the beginning: as many as come by chance.

    :param rate: requests a second in the long run.
    """
    chance = random.Random(seed)
    due, now = [], chance.expovariate(rate)
    while now < seconds:
        due.append(now)
        now += chance.expovariate(rate)
    return due


class _Connection:
    """One connection over TLS, and the one request that is under way on it."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        plain = socket.create_connection(("127.0.0.1", port), timeout=30)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain)
        self.socket.setblocking(False)
        self.due = 0.0
        self.left = 0
        self._unsent = memoryview(b"")
        self._received = b""
        self._length = -1

    def fileno(self) -> int:
        return self.socket.fileno()

    @property
    def is_sending(self) -> bool:
        return bool(self._unsent)

    def begin(self, data: bytes, due: float) -> None:
        self.due, self._unsent, self._received, self._length = due, memoryview(data), b"", -1
        self.go_on()

    def go_on(self) -> None:
        """Send what can be sent."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return

    def status(self) -> bytes:
        """Receive what has come; return the answer's status once it is whole, nothing before."""
        try:
            while True:
                piece = self.socket.recv(_RECEIVED_AT_ONCE)
                if not piece:
                    raise RuntimeError("nginx closed a connection under a request")
                self._received += piece
                if self._is_whole():
                    return self._received[9:12]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b""

    def _is_whole(self) -> bool:
        if self._length < 0:
            head, end, _ = self._received.partition(b"\r\n\r\n")
            if not end:
                return False
            lines = head.lower().split(b"\r\n")
            lengths = [line[15:] for line in lines if line.startswith(b"content-length:")]
            if not lengths:
                raise RuntimeError(f"an answer without a length: {head!r}")
            self._length = len(head) + 4 + int(lengths[0])
        return len(self._received) >= self._length


class Client:
    """Connections to one site, opened before anything is measured.

    :param port: of nginx on the loopback.
    :param connections: at most so many requests are under way at once.
    """

    def __init__(self, port: int, connections: int) -> None:
        """Open all connections."""
        # The certificate is made for the run by the bench itself.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._all = [_Connection(port, context) for _ in range(connections)]
        self._free = deque(self._all)
        self._busy: set[_Connection] = set()

    def __enter__(self) -> Client:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all connections."""
        for connection in self._all:
            connection.socket.close()

    def at_rate(self, requests: Sequence[bytes], due: Sequence[float]) -> Sent:
        """Send requests, in turn, each when it is due.

        :param due: in seconds from now, ascending.
        """
        waits, bad, number = [], 0, 0
        begin = end = time.monotonic()
        last = begin + due[-1] + PATIENCE_SECONDS if due else begin
        while number < len(due) or self._busy:
            now = time.monotonic()
            if now > last:
                break
            while number < len(due) and self._free and begin + due[number] <= now:
                self._begin(requests[number % len(requests)], begin + due[number])
                number += 1
            until = begin + due[number] if number < len(due) and self._free else last
            for connection, status in self._answered(max(0.0, until - time.monotonic())):
                end = time.monotonic()
                waits.append(int(1e6 * (end - connection.due)))
                bad += status != b"200"
                self._free.append(connection)
        return Sent(waits, len(due), bad, end - begin)

    def at_once(self, data: bytes, each: int, most_seconds: float) -> Sent:
        """Send on every connection so many requests, the next one when the last is answered.

        :param most_seconds: after which what is not answered is left.
        """
        waits, bad = [], 0
        begin = end = time.monotonic()
        while self._free:
            connection = self._free.popleft()
            connection.left = each - 1
            self._free.appendleft(connection)
            self._begin(data, time.monotonic())
        while self._busy and (now := time.monotonic()) < begin + most_seconds:
            for connection, status in self._answered(begin + most_seconds - now):
                end = time.monotonic()
                waits.append(int(1e6 * (end - connection.due)))
                bad += status != b"200"
                self._free.append(connection)
                if connection.left:
                    connection.left -= 1
                    self._free.rotate(1)
                    self._begin(data, end)
        return Sent(waits, each * len(self._all), bad, end - begin)

    def _begin(self, data: bytes, due: float) -> None:
        connection = self._free.popleft()
        self._busy.add(connection)
        connection.begin(data, due)

    def _answered(self, seconds: float) -> Iterator[tuple[_Connection, bytes]]:
        # select(2) waits for microseconds, which epoll in this Python rounds up to a millisecond.
        sending = [connection for connection in self._busy if connection.is_sending]
        readable, writable, _ = select.select(self._busy, sending, (), seconds)
        for connection in writable:
            connection.go_on()
        for connection in readable:
            if status := connection.status():
                self._busy.discard(connection)
                yield connection, status
