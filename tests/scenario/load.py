"""Steady requests to a site, every answer checked: is one lost or doubled by what happens meanwhile?"""

from __future__ import annotations

import http.client
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from testbed import webhooks
from testbed.https import Client, Connection
from testbed.sites import Site, until
from testbed.webhooks import Sender

THREADS = 4
LIMIT_SECONDS = 400
SHOWN_FAILURES = 10
VERSION = "/version"


@dataclass(frozen=True, slots=True)
class Record:
    """One request, and what came of it.

    :param port: the host's TLS port on the loopback.
    :param posts: the webhook it brought, if it brought one.
    :param due: when it was to be sent, by the monotonic clock.
    :param seconds: from then to the end of its answer: it may have had to wait for the one before it.
    :param status: the answer's HTTP status, 0 where there was none.
    :param request_id: what nginx calls it in its log, as the answer says.
    :param wrong: what was wrong, and at what time; empty for a right answer.
    """

    port: int
    method: str
    path: str
    posts: str
    is_kept: bool
    due: float
    seconds: float
    status: int
    request_id: str
    wrong: str

    @property
    def what(self) -> str:
        """What was asked, and on what connection."""
        return f"{self.method} {self.path} on a {'kept' if self.is_kept else 'new'} connection"

    def __str__(self) -> str:
        """All of it, for a person."""
        told = " ".join(filter(None, (f"port {self.port}", self.posts, self.request_id)))
        return f"{self.what}, {told}: {self.wrong or 'right'} after {self.seconds:.2f} s"


@dataclass
class Tally:
    """What one thread saw."""

    answers: Counter = field(default_factory=Counter)
    releases: Counter = field(default_factory=Counter)
    records: list[Record] = field(default_factory=list)
    connections: int = 0


@dataclass(frozen=True)
class Question:
    """A request, and what a right answer to it is.

    :param is_right: told the answer's body.
    :param body: in pieces, where it is sent as slowly as they come.
    :param posts: the webhook it brings, if it brings one.
    """

    target: str
    is_right: Callable[[bytes], bool]
    method: str = "GET"
    wanted: int = 200
    body: bytes | Iterable[bytes] | None = None
    posts: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Load:
    """Requests at a fixed rate, half of them on kept connections, half on new ones, until told to stop.

    Each thread asks in turn for the list of messages, sends a webhook nobody else sends, and asks which
    release answers. It ends by itself after `limit_seconds`. Used as a context manager, it is stopped at the
    end of the block, and `failures` and the other attributes are complete then.
    """

    def __init__(
        self, site: Site, *, rate: float = 50, threads: int = THREADS, limit_seconds: float = LIMIT_SECONDS
    ) -> None:
        """Prepare a load of `rate` requests a second on the site's app.

        :param threads: the more there are, the fewer requests a slow answer keeps from being sent in time.
        """
        self.site = site
        self.client: Client = site.web
        self.marker = f"load-{secrets.token_hex(6)}"
        self.interval_seconds = threads / rate
        self.limit_seconds = limit_seconds
        self.tallies = [Tally() for _ in range(threads)]
        self._stop = threading.Event()
        self._deadline = 0.0
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"load-{number}", daemon=True)
            for number in range(threads)
        ]

    @cached_property
    def bearer(self) -> Mapping[str, str]:
        """What the API is asked with."""
        return self.site.sender.bearer()

    def __enter__(self) -> Load:
        """Start, and return once answers come."""
        self._deadline = time.monotonic() + self.limit_seconds
        for thread in self._threads:
            thread.start()
        assert until(30, lambda: self.count >= 40), f"no answers to begin with: {self.words}"
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop, and wait for what is on its way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads), "the load does not stop"

    @property
    def count(self) -> int:
        """How many right answers came so far."""
        return sum(sum(tally.answers.values()) for tally in self.tallies)

    @property
    def answers(self) -> Counter:
        """Right answers by what was asked, and on what connection."""
        return sum((tally.answers for tally in self.tallies), Counter())

    @property
    def releases(self) -> Counter:
        """Which releases answered, how often."""
        return sum((tally.releases for tally in self.tallies), Counter())

    @property
    def records(self) -> list[Record]:
        """Every request that was sent."""
        return [record for tally in self.tallies for record in list(tally.records)]

    @property
    def failures(self) -> list[str]:
        """What was lost or wrong."""
        return [str(record) for record in self.records if record.wrong]

    @property
    def posted(self) -> list[str]:
        """Every webhook that was taken."""
        return [record.posts for record in self.records if record.posts and not record.wrong]

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        return sum(tally.connections for tally in self.tallies)

    @property
    def slowest_seconds(self) -> float:
        """How long the slowest answer took."""
        return max(record.seconds for record in self.records)

    @property
    def words(self) -> str:
        """All of it, for a person."""
        shown = "\n".join(self.failures[:SHOWN_FAILURES])
        return (
            f"{self.count} right answers ({dict(self.answers)}) over {self.connections} connections, "
            f"slowest {self.slowest_seconds:.2f} s, by {dict(self.releases)}; "
            f"{len(self.failures)} failures\n{shown}"
        )

    def stored(self) -> tuple[int, int]:
        """Return how many of this load's webhooks the database holds, and how many different ones."""
        app = self.site.app
        query = f"select count(*), count(distinct body) from message where delivery_id like '{self.marker}-%'"
        rows, distinct = self.site.sudo(f'psql -tA -F " " -d {app} -c "{query}"', user=app).split()
        return int(rows), int(distinct)

    def wait_for(self, seconds: float, release: str) -> bool:
        """Return whether the public gets answers of a release within some seconds."""
        before = self.releases[release]
        return until(seconds, lambda: self.releases[release] > before)

    def _run(self, number: int) -> None:
        kept = number % 2 == 0
        tally = self.tallies[number]
        context = self.client.context()
        connection = None
        # Threads begin at different moments, so that requests come evenly.
        due = time.monotonic() + number * self.interval_seconds / len(self.tallies)
        turn = number
        while not self._stop.wait(max(0.0, due - time.monotonic())) and time.monotonic() < self._deadline:
            if connection is None:
                connection = self.client.connection(context)
                tally.connections += 1
            question = self._question(turn, f"{number}-{turn}")
            if not self._ask(connection, question, kept, due, tally) or not kept:
                connection.close()
                connection = None
            turn += 1
            # After a slow answer the pace goes on from now: no burst to catch up with.
            due = max(due + self.interval_seconds, time.monotonic() - self.interval_seconds)
        if connection is not None:
            connection.close()

    def _ask(self, connection: Connection, question: Question, kept: bool, due: float, tally: Tally) -> bool:
        """Ask once and keep what came of it; return whether the connection may be used again."""
        record, text, may_go_on = ask(self.client, connection, question, due, kept=kept)
        tally.records.append(record)
        if record.wrong:
            return False
        tally.answers[record.what] += 1
        if record.path == VERSION:
            tally.releases[json.loads(text)["release"]] += 1
        return may_go_on

    def _question(self, turn: int, word: str) -> Question:
        """Return what to ask.

        :param turn: one more each time.
        :param word: different each time.
        """
        kind = turn % 3
        if kind == 0:
            right = _holding("messages", list)
            return Question("/api/v1/messages?limit=2", right, headers=self.bearer)
        if kind == 1:
            delivery_id = f"{self.marker}-{word}"
            return webhook(self.site.sender, delivery_id, webhooks.body_of(delivery_id))
        return Question(VERSION, _holding("release", str))


def webhook(sender: Sender, delivery_id: str, body: bytes) -> Question:
    """Return a webhook that nobody sent before."""
    return Question(
        webhooks.HOOK,
        lambda text: json.loads(text).get("status") == "accepted",
        method="POST",
        wanted=202,
        body=body,
        posts=delivery_id,
        headers=sender.headers(delivery_id, body),
    )


def ask(
    client: Client, connection: Connection, question: Question, due: float, *, kept: bool
) -> tuple[Record, bytes, bool]:
    """Ask once and check the answer; return all of it, and whether the connection may be used again.

    :param due: when it was to be sent, by the monotonic clock.
    :param kept: whether the connection is to be kept.
    """
    path = question.target.partition("?")[0]
    kind = "keep-alive" if kept else "close"
    headers = {**question.headers, "Host": client.host_header, "Connection": kind}
    status, request_id, text, wrong, may_go_on = 0, "", b"", "", False
    try:
        connection.request(question.method, question.target, body=question.body, headers=headers)
        response = connection.getresponse()
        status, request_id = response.status, response.headers.get("X-Request-ID", "")
        text = response.read()
        if status != question.wanted or not question.is_right(text):
            wrong = f"HTTP {status} {text[:200]!r}"
        # nginx says so after a number of requests on one connection, and closes it.
        may_go_on = not response.will_close
    except (OSError, http.client.HTTPException, ValueError) as error:
        wrong = f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - due
    came = (kept, due, seconds, status, request_id, f"{now()} {wrong}" if wrong else "")
    return Record(client.https_port, question.method, path, question.posts, *came), text, may_go_on


def _holding(key: str, kind: type) -> Callable[[bytes], bool]:
    return lambda text: isinstance(json.loads(text).get(key), kind)


def now() -> str:
    """Return the time as the journal shows it."""
    return time.strftime("%H:%M:%S", time.gmtime())
