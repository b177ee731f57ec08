"""Steady requests to a site, every answer checked: is one lost or doubled by what happens meanwhile?"""

from __future__ import annotations

import http.client
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from testbed import webhooks
from testbed.https import Client
from testbed.sites import Site, until

THREADS = 4
LIMIT_SECONDS = 400
SHOWN_FAILURES = 10
VERSION = "/version"


@dataclass
class Tally:
    """What one thread saw."""

    answers: Counter = field(default_factory=Counter)
    releases: Counter = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    posted: list[str] = field(default_factory=list)
    connections: int = 0
    slowest_seconds: float = 0.0


@dataclass(frozen=True)
class Question:
    """A request, and what a right answer to it is.

    :param is_right: told the answer's body.
    :param posts: the webhook it brings, if it brings one.
    """

    target: str
    is_right: Callable[[bytes], bool]
    method: str = "GET"
    wanted: int = 200
    body: bytes | None = None
    posts: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class Load:
    """Requests at a fixed rate, half of them on kept connections, half on new ones, until told to stop.

    Each thread asks in turn for the list of messages, sends a webhook nobody else sends, and asks which
    release answers. It ends by itself after `LIMIT_SECONDS`. Used as a context manager, it is stopped at the
    end of the block, and `failures` and the other attributes are complete then.
    """

    def __init__(self, site: Site, *, rate: float = 50) -> None:
        """Prepare a load of `rate` requests a second on the site's app."""
        self.site = site
        self.client: Client = site.web
        self.marker = f"load-{secrets.token_hex(6)}"
        self.interval_seconds = THREADS / rate
        self.tallies = [Tally() for _ in range(THREADS)]
        self._stop = threading.Event()
        self._deadline = 0.0
        self._threads = [
            threading.Thread(target=self._run, args=(number,), name=f"load-{number}", daemon=True)
            for number in range(THREADS)
        ]

    @cached_property
    def bearer(self) -> Mapping[str, str]:
        """What the API is asked with."""
        return self.site.sender.bearer()

    def __enter__(self) -> Load:
        """Start, and return once answers come."""
        self._deadline = time.monotonic() + LIMIT_SECONDS
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
    def failures(self) -> list[str]:
        """What was lost or wrong."""
        return [failure for tally in self.tallies for failure in tally.failures]

    @property
    def posted(self) -> list[str]:
        """Every webhook that was taken."""
        return [body for tally in self.tallies for body in tally.posted]

    @property
    def connections(self) -> int:
        """How many connections were opened."""
        return sum(tally.connections for tally in self.tallies)

    @property
    def slowest_seconds(self) -> float:
        """How long the slowest answer took."""
        return max(tally.slowest_seconds for tally in self.tallies)

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
        due = time.monotonic() + number * self.interval_seconds / THREADS
        turn = number
        while not self._stop.wait(max(0.0, due - time.monotonic())) and time.monotonic() < self._deadline:
            if connection is None:
                connection = self.client.connection(context)
                tally.connections += 1
            if not self._ask(connection, turn % 3, f"{number}-{turn}", kept, tally) or not kept:
                connection.close()
                connection = None
            turn += 1
            # After a slow answer the pace goes on from now: no burst to catch up with.
            due = max(due + self.interval_seconds, time.monotonic() - self.interval_seconds)
        if connection is not None:
            connection.close()

    def _ask(
        self, connection: http.client.HTTPConnection, kind: int, word: str, kept: bool, tally: Tally
    ) -> bool:
        """Ask once and check the answer; return whether the connection may be used again."""
        question = self._question(kind, word)
        path = question.target.partition("?")[0]
        kind = "keep-alive" if kept else "close"
        headers = {**question.headers, "Host": self.client.host_header, "Connection": kind}
        what = f"{question.method} {path} on a {'kept' if kept else 'new'} connection"
        began = time.monotonic()
        try:
            connection.request(question.method, question.target, body=question.body, headers=headers)
            response = connection.getresponse()
            text = response.read()
            right = response.status == question.wanted and question.is_right(text)
        except (OSError, http.client.HTTPException, ValueError) as error:
            tally.failures.append(f"{now()} {what}, {word}: {type(error).__name__}: {error}")
            return False
        tally.slowest_seconds = max(tally.slowest_seconds, time.monotonic() - began)
        if not right:
            tally.failures.append(f"{now()} {what}, {word}: HTTP {response.status} {text[:200]!r}")
            return False
        tally.answers[what] += 1
        if question.posts:
            tally.posted.append(question.posts)
        elif path == VERSION:
            tally.releases[json.loads(text)["release"]] += 1
        # nginx says so after a number of requests on one connection, and closes it.
        return not response.will_close

    def _question(self, kind: int, word: str) -> Question:
        """Return what to ask.

        :param kind: 0, 1 or 2, in turn.
        :param word: different each time.
        """
        if kind == 0:
            right = _holding("messages", list)
            return Question("/api/v1/messages?limit=2", right, headers=self.bearer)
        if kind == 1:
            delivery_id = f"{self.marker}-{word}"
            body = webhooks.body_of(delivery_id)
            return Question(
                webhooks.HOOK,
                lambda text: json.loads(text).get("status") == "accepted",
                method="POST",
                wanted=202,
                body=body,
                posts=delivery_id,
                headers=self.site.sender.headers(delivery_id, body),
            )
        return Question(VERSION, _holding("release", str))


def _holding(key: str, kind: type) -> Callable[[bytes], bool]:
    return lambda text: isinstance(json.loads(text).get(key), kind)


def now() -> str:
    """Return the time as the journal shows it."""
    return time.strftime("%H:%M:%S", time.gmtime())
