"""What the servers of bench.throughput share: the table, its keys, and their settings."""

from __future__ import annotations

import os
import random

from sqlalchemy.orm import Mapped, mapped_column

#: Rows that are read. As many after them are changed, so that what is read is known.
ITEMS = 10_000
LISTED = 10
QUERIES = 20
#: Of one process.
POOL = {"pool_size": int(os.environ.get("BENCH_POOL", "10")), "max_overflow": 0}
PEER_URL = os.environ.get("BENCH_PEER_URL", "")
#: Connections that one process keeps to the peer.
PEER_CONNECTIONS = 500


class Columns:
    """The columns of the table ``item``; schema.sql makes it."""

    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    value: Mapped[int]


def keys(start: int) -> list[int]:
    """Return the keys that ``/twenty/<start>`` reads, in every server the same: far apart, none twice."""
    return [1 + (start + 7919 * number) % ITEMS for number in range(QUERIES)]


def any_key() -> int:
    """Return a key by chance: two requests under way at once seldom want to change the same row."""
    return random.randint(ITEMS + 1, 2 * ITEMS)
