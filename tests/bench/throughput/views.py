"""What is asked: the rows of the table."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

#: Of the table ``item``, whose rows 1 to 10,000 a page of ten is read from.
KEYS = range(1, 9_991)


@dataclass(frozen=True, slots=True)
class View:
    """One row.

    :param paths: asked for in turn.
    :param body: sent by POST with each request, None for GET.
    :param connections: in the closed loop: requests under way at once.
    :param is_slow: whether its requests wait for a peer, and are all sent at once.
    :param is_for_all: whether also what has no framework serves it.
    """

    name: str
    about: str
    paths: Sequence[str]
    body: bytes | None = None
    content_type: str = ""
    connections: int = 32
    is_slow: bool = False
    is_for_all: bool = False


def _spread(pattern: str) -> list[str]:
    # The same ones for every server in every run.
    return [pattern.format(key) for key in random.Random(0).sample(KEYS, 1000)]


VIEWS = {
    view.name: view
    for view in (
        View("json", "one line of JSON", ["/hello"], is_for_all=True),
        View("one", "one row by its key, through the ORM", _spread("/one/{}")),
        View("twenty", "twenty rows by their keys, one query after the other", _spread("/twenty/{}")),
        View("update", "a row read, changed, committed", ["/update"], b'{"by": 1}', "application/json"),
        View("page", "a page of ten rows by a template", _spread("/page/{}")),
        View("upload", "1 MiB read", ["/upload"], bytes(2**20), "application/octet-stream", 8),
        View("slow", "a peer that takes 1 s, 500 at once", ["/slow"], connections=500, is_slow=True),
    )
}
