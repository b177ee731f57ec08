"""Take something an app depends on away, and watch what the app says of itself meanwhile."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from further_apps import App
from target_host import keys
from target_host.shell import as_root, run
from testbed.https import Answer
from testbed.sites import Site

INTERVAL_SECONDS = 0.2
HELD_SECONDS = 3.0
RECOVERY_LIMIT_SECONDS = 20.0


@dataclass(frozen=True)
class Asked:
    """One answer to a probe."""

    began: float
    seconds: float
    answer: Answer

    @property
    def status(self) -> int:
        """Its HTTP status."""
        return self.answer.status


@dataclass
class Watch:
    """Ask `/livez` without pause on a connection of its own until told to stop."""

    app: App
    statuses: Counter = field(default_factory=Counter)
    slowest_seconds: float = 0.0

    def __enter__(self) -> Watch:
        """Begin."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="livez", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        context = self.app.web.context()
        while not self._stop.wait(INTERVAL_SECONDS / 4):
            connection = self.app.web.connection(context)
            began = time.monotonic()
            try:
                connection.request("GET", "/livez", headers={"Host": self.app.web.host_header})
                response = connection.getresponse()
                response.read()
                self.statuses[response.status] += 1
            except (OSError, http.client.HTTPException) as error:
                self.statuses[repr(error)] += 1
            finally:
                connection.close()
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)


@dataclass
class Outage:
    """What was seen of one."""

    processes: list[list[str]]
    livez: Watch
    began: float
    returned: float
    during: list[Asked]
    after: list[Asked]
    details: dict

    @property
    def seconds_until_noticed(self) -> float:
        """From the outage to the first answer that tells of it."""
        return next((a.began + a.seconds - self.began for a in self.during if a.status == 503), float("inf"))

    @property
    def seconds_until_ready(self) -> float:
        """From the return to the first answer that is ready again."""
        ends = (a.began + a.seconds - self.returned for a in self.after if a.status == 200)
        return next(ends, float("inf"))

    @property
    def words(self) -> str:
        """All of it, for a person."""
        shown = [
            f"{asked.began - self.began:6.2f} s: {asked.status} after {asked.seconds:.2f} s"
            for asked in (*self.during, *self.after)
        ]
        return "\n".join(
            [f"livez {dict(self.livez.statuses)}, returned at {self.returned - self.began:.2f} s", *shown]
        )


def ask(app: App) -> Asked:
    """Ask the public whether the app is ready."""
    began = time.monotonic()
    answer = app.web.get("/readyz")
    return Asked(began, time.monotonic() - began, answer)


def outage(app: App, take: str, give_back: str) -> Outage:
    """Take something away by one command, give it back by another, and watch.

    Returns once the app is ready again, or after `RECOVERY_LIMIT_SECONDS` without.
    """
    processes = [app.processes()]
    during, after = [], []
    with Watch(app) as livez:
        time.sleep(INTERVAL_SECONDS)
        app.site.sudo(take)
        began = time.monotonic()
        try:
            while time.monotonic() < began + HELD_SECONDS:
                during.append(ask(app))
                time.sleep(INTERVAL_SECONDS)
            details = json.loads(app.internal("readyz"))
        finally:
            app.site.sudo(give_back)
            returned = time.monotonic()
        while time.monotonic() < returned + RECOVERY_LIMIT_SECONDS:
            after.append(ask(app))
            if after[-1].status == 200:
                break
            time.sleep(INTERVAL_SECONDS)
    processes.append(app.processes())
    return Outage(processes, livez, began, returned, during, after, details)


def in_container(site: Site, command: str) -> None:
    """Run a command on a host by its container, which needs no SSH."""
    run(as_root(["podman", "exec", site.container, "sh", "-c", command]))


@contextmanager
def unreachable(site: Site) -> Iterator[None]:
    """Let nobody in by SSH for the length of the block; the host serves on."""
    keys.close_connections([site.declaration.ssh_port])
    in_container(site, "systemctl stop ssh.service; pkill sshd || true")
    try:
        yield
    finally:
        in_container(site, "systemctl start ssh.service")
