"""Store each webhook once, find it again, have it processed again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from flask_ops.request_id import current_request_id
from sqlalchemy import Insert, Select, case, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import load_only, selectinload

from ..models import ID_MAX, db, now
from ..paging import Page, newest
from . import summaries
from .models import STATUSES, Message, Tally
from .signatures import Delivery
from .sources import Source

#: By then the broker has handed a new message to a worker, or beat sends it again.
FIRST_LOOK_SECONDS = 30
SEARCH_MAX_CHARACTERS = 100
_LISTED = (
    Message.source, Message.event, Message.title, Message.delivery_id, Message.received_at, Message.status,
    Message.attempt_count,
)  # fmt: skip


class Replayed(Exception):
    """The same signed body came before, under another delivery id."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What became of a delivery.

    :param message_id: its message.
    :param is_new: whether it had not come before.
    """

    message_id: int
    is_new: bool


def insert(table: Any, bind: Any = None) -> Insert:
    """Return an INSERT that knows ON CONFLICT, for the database in use."""
    dialect = (bind or db.engine).dialect.name
    return (postgresql if dialect == "postgresql" else sqlite).insert(table)


def store(source: Source, delivery: Delivery) -> Stored:
    """Store a delivery unless it has been stored: one statement, one round trip, however many come at once.

    :raises Replayed: if its body was sent before under another id.
    """
    values = {
        "source": source.name,
        "delivery_id": delivery.delivery_id,
        "event": delivery.event,
        "body": delivery.body,
        "digest": delivery.digest,
        "title": summaries.title(source.scheme, delivery.event, delivery.payload),
        "request_id": current_request_id(),
        "status": "pending",
        "received_at": now(),
        "next_attempt_at": now() + timedelta(seconds=FIRST_LOOK_SECONDS),
    }
    statement = insert(Message).values(**values).on_conflict_do_nothing().returning(Message.id)
    # Each statement commits itself: BEGIN and COMMIT would be two more round trips.
    with db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        message_id = connection.scalar(statement)
        if message_id is not None:
            return Stored(message_id, True)
        message_id = connection.scalar(
            select(Message.id).filter_by(source=source.name, delivery_id=delivery.delivery_id)
        )
    if message_id is None:
        raise Replayed
    return Stored(message_id, False)


@dataclass(frozen=True, slots=True)
class Filters:
    """Which messages to list; None and empty match all.

    :param text: found in the title, or the whole delivery id.
    :param since: received at that time or later.
    :param until: received before.
    """

    source: str | None = None
    event: str | None = None
    status: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def apply(self, query: Select) -> Select:
        """Return a query for those messages alone."""
        for column, wanted in (
            (Message.source, self.source), (Message.event, self.event), (Message.status, self.status)
        ):  # fmt: skip
            if wanted:
                query = query.where(column == wanted)
        if self.text:
            query = query.where(
                or_(Message.title.icontains(self.text, autoescape=True), Message.delivery_id == self.text)
            )
        if self.since:
            query = query.where(Message.received_at >= self.since)
        if self.until:
            query = query.where(Message.received_at < self.until)
        return query


def listed(filters: Filters, limit: int, cursor: int | None = None) -> Page:
    """Return messages without their bodies, newest first, in one round trip."""
    return newest(filters.apply(select(Message).options(load_only(*_LISTED))), Message.id, limit, cursor)


def get(message_id: int) -> Message | None:
    """Return a message with its attempts, in two round trips; None if there is none with this id."""
    if not 0 < message_id <= ID_MAX:
        return None
    return db.session.get(Message, message_id, options=[selectinload(Message.attempts)])


def replay(message_ids: Iterable[int]) -> list[int]:
    """Have messages processed again, done or given up; return those that will be.

    They are handed on under a new ``Idempotency-Key``: the other side is to act again. One that failed and
    would be tried again anyway is only tried sooner, under its own: the other side may have acted already.
    One that waits or is being worked on is left alone: it will be done anyway.
    """
    statement = (
        update(Message)
        .where(Message.id.in_(list(message_ids)), Message.status.in_(("done", "dead", "failed")))
        .values(
            status="pending",
            next_attempt_at=now() + timedelta(seconds=FIRST_LOOK_SECONDS),
            replay_count=case((Message.status == "failed", 0), else_=1) + Message.replay_count,
            attempt_base=Message.attempt_count,
        )
        .returning(Message.id)
        .execution_options(synchronize_session=False)
    )
    found = list(db.session.scalars(statement))
    db.session.commit()
    return found


def replay_dead(limit: int, source: str | None = None) -> list[int]:
    """Have the oldest messages that were given up processed again; return them.

    :param limit: how many at most.
    :param source: of one source alone.
    """
    query = select(Message.id).where(Message.status == "dead").order_by(Message.id).limit(limit)
    if source:
        query = query.where(Message.source == source)
    return replay(db.session.scalars(query))


def counts() -> Mapping[str, int]:
    """Return how many messages are in each state but `done`, of which there may be millions."""
    waiting = [status for status in STATUSES if status != "done"]
    query = select(Message.status, func.count()).where(Message.status.in_(waiting)).group_by(Message.status)
    return dict.fromkeys(waiting, 0) | dict(iter(db.session.execute(query)))


def oldest_waiting() -> datetime | None:
    """Return when the oldest message came that is not done yet."""
    waiting = ("pending", "processing", "failed")
    return db.session.scalar(select(func.min(Message.received_at)).where(Message.status.in_(waiting)))


def count(tallied: Mapping[tuple[date, str, str], int]) -> None:
    """Add to the tally, in the session's transaction.

    :param tallied: how many, by day, source and event.
    """
    # In one order, whoever counts: two workers that wait for each other's rows would be a deadlock.
    for (day, source, event), number in sorted(tallied.items()):
        statement = insert(Tally, db.session.get_bind()).values(
            day=day, source=source, event=event, count=number
        )
        db.session.execute(
            statement.on_conflict_do_update(
                index_elements=["day", "source", "event"], set_={"count": Tally.count + number}
            )
        )
