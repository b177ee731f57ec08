"""Steady requests for pages of any app: is one lost by what happens meanwhile?"""

from __future__ import annotations

import dataclasses
import http.client
import json
import time
from collections.abc import Mapping

from further_apps import App
from load import Load, Tally, now

WAIT_SECONDS = 40


class PagesLoad(Load):
    """As `Load`, for pages that are only read.

    In turn with them it asks which release answers.
    """

    def __init__(self, app: App, pages: Mapping[str, str], *, rate: float = 20) -> None:
        """Prepare a load of `rate` requests a second.

        :param pages: paths, each with a text that every right answer holds.
        """
        super().__init__(app.site, rate=rate)
        # Over a restart requests wait in the socket's backlog for as long as the app takes to start.
        self.client = dataclasses.replace(app.web, timeout_seconds=WAIT_SECONDS)
        self.pages = {**pages, "/version": '"release"'}

    def _ask(
        self, connection: http.client.HTTPConnection, kind: int, word: str, kept: bool, tally: Tally
    ) -> bool:
        path = list(self.pages)[kind % len(self.pages)]
        headers = {"Host": self.client.host_header, "Connection": "keep-alive" if kept else "close"}
        what = f"GET {path} on a {'kept' if kept else 'new'} connection"
        began = time.monotonic()
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            tally.failures.append(f"{now()} {what}, {word}: {type(error).__name__}: {error}")
            return False
        tally.slowest_seconds = max(tally.slowest_seconds, time.monotonic() - began)
        if response.status != 200 or self.pages[path] not in text:
            tally.failures.append(f"{now()} {what}, {word}: HTTP {response.status} {text[:200]!r}")
            return False
        tally.answers[what] += 1
        if path == "/version":
            tally.releases[json.loads(text)["release"]] += 1
        return not response.will_close
