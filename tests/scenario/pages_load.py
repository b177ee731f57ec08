"""Steady requests for pages of any app: is one lost by what happens meanwhile?"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from further_apps import App
from load import VERSION, Load, Question

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
        self.pages = {**pages, VERSION: '"release"'}

    def _question(self, turn: int, word: str) -> Question:
        path = list(self.pages)[turn % len(self.pages)]
        return Question(path, lambda text: self.pages[path] in text.decode(errors="replace"))
