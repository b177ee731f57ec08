"""Steady requests to every app host of a fleet, and what its database and its hosts' logs say of each."""

from __future__ import annotations

import dataclasses
import itertools
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack

from load import Load, Question, Record, ask, webhook
from testbed.fleets import Fleet
from testbed.sites import Site

THREADS = 8
"""On each host: one that waits a second for its answer leaves seven to send in time."""
DOWNLOAD = "/planted/download"
DOWNLOAD_SECONDS = 20
UPLOAD_SECONDS = 10
PIECES = 40
PIECE_BYTES = 4096
UPLOADS = f"upload-{secrets.token_hex(6)}"
"""What the delivery ids of this process's uploads begin with."""
HOOKS = "src/inbox/messages/hooks.py"
SENT = "        celery_of_app.send_soon(process, stored.message_id)\n"
# Workers take several times what a request does, and would leave a small machine little for all the others.
# One message of ten shows that they go on.
MOSTLY_DONE = f"""        from sqlalchemy import update
        from ..models import db
        from .models import Message

        if stored.message_id % 10:
            db.session.execute(update(Message).where(Message.id == stored.message_id).values(status="done"))
            db.session.commit()
        else:
    {SENT}"""
# nginx would read a page ahead of a slow client; this one keeps the app at it for as long as it takes.
DOWNLOAD_VIEW = f'''
    @app.get("{DOWNLOAD}")
    def planted_download():
        import time

        def pieces():
            for _ in range({PIECES}):
                time.sleep({DOWNLOAD_SECONDS / PIECES})
                yield b"x" * {PIECE_BYTES}

        headers = {{"Content-Length": "{PIECES * PIECE_BYTES}", "X-Accel-Buffering": "no"}}
        return app.response_class(pieces(), headers=headers, mimetype="application/octet-stream")

'''
# Runs on a host, on Debian's own Python.
LOG_READER = """
import json, sys
asked = set(sys.stdin.read().split())
for line in open(sys.argv[1]):
    told = json.loads(line)
    if told["request_id"] in asked:
        print(told["request_id"], told["status"], told["release"] or "nobody")
"""


class HalfWebhooks(Load):
    """As `Load`, every second request a webhook, and seldom one for what takes a signed token and a query."""

    def _question(self, turn: int, word: str) -> Question:
        return super()._question((0, 1, 2, 1, 2, 1)[turn % 6], word)


class FleetLoad:
    """Steady requests, spread over all app hosts; beside them always one long download and one long upload.

    Used as a context manager, it is complete at the end of the block.
    """

    def __init__(self, fleet: Fleet, *, rate: float, limit_seconds: float) -> None:
        """Prepare `rate` requests a second over all hosts; they end by themselves after `limit_seconds`."""
        self.fleet = fleet
        self.loads = [
            HalfWebhooks(site, rate=rate / len(fleet.apps), threads=THREADS, limit_seconds=limit_seconds)
            for site in fleet.apps
        ]
        self.downloads = Transfers(fleet.apps, download, limit_seconds=limit_seconds)
        self.uploads = Transfers(fleet.apps, upload, limit_seconds=limit_seconds)
        self._running = ExitStack()

    def __enter__(self) -> FleetLoad:
        """Start, and return once every host answers."""
        self.sign_in()
        for part in (*self.loads, self.downloads, self.uploads):
            self._running.enter_context(part)
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop, and wait for what is on its way."""
        self._running.close()

    def sign_in(self) -> None:
        """Sign in to the API anew: a token is good on every host, for a quarter of an hour."""
        bearer = self.fleet.apps[0].sender.bearer()
        for load in self.loads:
            load.bearer = bearer

    @property
    def steady(self) -> list[Record]:
        """Every request but the long ones."""
        return [record for load in self.loads for record in load.records]

    @property
    def records(self) -> list[Record]:
        """Every request that was sent."""
        return [*self.steady, *self.downloads.records, *self.uploads.records]

    def stored(self) -> list[tuple[str, str]]:
        """Return the webhooks of this load that the database holds: delivery id and body's digest."""
        markers = "|".join([*(load.marker for load in self.loads), UPLOADS])
        query = f"select delivery_id, md5(body) from message where delivery_id ~ '^({markers})-'"
        rows = self.fleet.data.sudo(
            f'psql -tA -F " " -d {self.fleet.app} -c "{query}"', user="postgres", timeout_seconds=120
        )
        return [tuple(row.split()) for row in rows.splitlines()]

    def logged(self) -> list[tuple[str, int, str]]:
        """Return what nginx says of the requests on its hosts: request id, status, release that answered."""
        asked = "\n".join(record.request_id for record in self.records).encode()
        reader = f"python3 -c '{LOG_READER}' /var/log/nginx/{self.fleet.app}.access.log"
        told = [site.sudo(reader, stdin=asked, timeout_seconds=120) for site in self.fleet.apps]
        lines = [line.split() for text in told for line in text.splitlines()]
        return [(request_id, int(status), release) for request_id, status, release in lines]


class Transfers:
    """One transfer after the other, each with the next host, until told to stop."""

    def __init__(
        self, sites: Iterable[Site], make: Callable[[Site], Question], *, limit_seconds: float
    ) -> None:
        """Prepare them.

        :param make: makes the request.
        """
        self.records: list[Record] = []
        self._sites = itertools.cycle(sites)
        self._make = make
        self._limit_seconds = limit_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=make.__name__, daemon=True)

    def __enter__(self) -> Transfers:
        """Begin."""
        self._deadline = time.monotonic() + self._limit_seconds
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Let the last one end."""
        self._stop.set()
        self._thread.join(2 * DOWNLOAD_SECONDS)
        assert not self._thread.is_alive(), f"the {self._thread.name} does not end"

    def _run(self) -> None:
        while not self._stop.is_set() and time.monotonic() < self._deadline:
            site = next(self._sites)
            connection = site.web.connection()
            record, _, _ = ask(site.web, connection, self._make(site), time.monotonic(), kept=False)
            self.records.append(record)
            connection.close()


def download(site: Site) -> Question:
    """Return the request for something the app takes `DOWNLOAD_SECONDS` to give."""
    return Question(DOWNLOAD, lambda body: len(body) == PIECES * PIECE_BYTES)


def upload(site: Site) -> Question:
    """Return a webhook that takes `UPLOAD_SECONDS` to send."""
    delivery_id = f"{UPLOADS}-{secrets.token_hex(6)}"
    body = json.dumps({"ref": delivery_id, "padding": "x" * PIECES * PIECE_BYTES}).encode()
    sent = webhook(site.sender, delivery_id, body)
    headers = {**sent.headers, "Content-Length": str(len(body))}
    return dataclasses.replace(sent, body=slowly(body), headers=headers)


def slowly(body: bytes) -> Iterator[bytes]:
    """Yield a body in pieces, over `UPLOAD_SECONDS`."""
    size = -(-len(body) // PIECES)
    for start in range(0, len(body), size):
        time.sleep(UPLOAD_SECONDS / PIECES)
        yield body[start : start + size]
