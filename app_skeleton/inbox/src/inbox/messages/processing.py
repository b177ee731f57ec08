"""Process a message: claim it, hand it on, count it once.

What a message's row says is the truth; whoever wants to work on it must move the row first, and write the
result only if the row still says that the work is theirs. So it does not matter how often or where the same
message is handed out: by the web app, by beat, by a broker that delivers twice.

- A worker that is killed leaves `processing` and a time; when that has passed, the next one takes over.
- A worker that was given up for lost and lives after all finds another attempt's number and changes nothing.
"""

from __future__ import annotations

import random
from datetime import timedelta

import structlog
from flask import current_app
from sqlalchemy import and_, or_, select, update

from ..models import db, now
from . import inbox, relay
from .models import Attempt, Message

#: On top of what one attempt may rightly take.
LEASE_MARGIN_SECONDS = 20
BACKOFF_FIRST_SECONDS = 5
BACKOFF_FACTOR = 4
BACKOFF_MAX_SECONDS = 3600

log = structlog.get_logger(__name__)


def process(message_id: int, worker: str) -> str:
    """Make one attempt; return what came of it: ``done``, ``failed``, ``dead``, or ``skipped``.

    :param message_id: the message.
    :param worker: who works, for those who look for it later.
    """
    message = _claim(message_id, worker)
    if message is None:
        return "skipped"
    if _tries(message) > current_app.config["RELAY_ATTEMPTS_MAX"]:
        return _end(message, "dead", "Its workers went away again and again.")
    try:
        relay.relay(message)
    except relay.Final as error:
        return _end(message, "dead", str(error))
    except relay.Passing as error:
        return _fail(message, str(error), error.retry_after_seconds)
    except Exception as error:
        # A defect of ours. It may go with the next release, so it is tried again, and said aloud.
        log.exception("processing failed", message_id=message_id)
        return _fail(message, type(error).__name__, None)
    return _end(message, "done", None)


def lease() -> timedelta:
    """Return how long an attempt may take before its worker is given up for lost."""
    return timedelta(seconds=current_app.config["RELAY_TIMEOUT_SECONDS"] + LEASE_MARGIN_SECONDS)


def _claim(message_id: int, worker: str) -> Message | None:
    """Begin an attempt; return its message, None if there is nothing to do or somebody does it."""
    # Not one that failed: a task that comes twice would be a try before its time. `due` says when it is time.
    free = Message.status == "pending"
    lost = and_(Message.status == "processing", Message.next_attempt_at <= now())
    began = now()
    message = db.session.scalar(
        update(Message)
        .where(Message.id == message_id, or_(free, lost))
        .values(
            status="processing",
            attempt_count=Message.attempt_count + 1,
            next_attempt_at=began + lease(),
        )
        .returning(Message)
    )
    if message is None:
        db.session.rollback()
        return None
    db.session.execute(
        update(Attempt)
        .where(Attempt.message_id == message_id, Attempt.outcome == "running")
        .values(outcome="lost", ended_at=began, error="Its worker went away.")
    )
    db.session.add(
        Attempt(
            message_id=message_id,
            number=message.attempt_count,
            began_at=began,
            outcome="running",
            worker=worker,
        )
    )
    db.session.flush()
    # Used outside of any transaction: none stays open while another service makes us wait.
    db.session.expunge(message)
    db.session.commit()
    return message


def _fail(message: Message, reason: str, retry_after_seconds: int | None) -> str:
    tries = _tries(message)
    if tries >= current_app.config["RELAY_ATTEMPTS_MAX"]:
        return _end(message, "dead", reason)
    wait = retry_after_seconds or backoff_seconds(tries)
    return _end(message, "failed", reason, timedelta(seconds=wait))


def _tries(message: Message) -> int:
    return message.attempt_count - message.attempt_base


def backoff_seconds(tries: int) -> float:
    """Return how long to wait after so many tries: growing, and at random from half of it to all.

    At random, so that a thousand messages that failed together do not come back together
    (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).
    """
    # The exponent is bounded first: a float overflows at some 500.
    longest = min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * BACKOFF_FACTOR ** min(tries - 1, 10))
    return random.uniform(longest / 2, longest)  # noqa: S311 - nobody gains by guessing it


def _end(message: Message, status: str, error: str | None, wait: timedelta | None = None) -> str:
    """Write down the result, in one transaction with the message's effect, if the attempt is still ours."""
    ended = now()
    first = status == "done" and message.processed_at is None
    mine = update(Message).where(
        Message.id == message.id,
        Message.status == "processing",
        Message.attempt_count == message.attempt_count,
    )
    values = {"status": status, "next_attempt_at": ended + wait if wait else None}
    if first:
        values["processed_at"] = ended
    written = db.session.execute(mine.values(**values).execution_options(synchronize_session=False))
    if written.rowcount != 1:
        db.session.rollback()
        log.warning("attempt was given up for lost", message_id=message.id, attempt=message.attempt_count)
        return "skipped"
    if first:
        inbox.count({(message.received_at.date(), message.source, message.event): 1})
    outcome = "done" if status == "done" else "failed"
    db.session.execute(
        update(Attempt)
        .where(Attempt.message_id == message.id, Attempt.number == message.attempt_count)
        .values(outcome=outcome, ended_at=ended, error=error)
    )
    db.session.commit()
    log.info("message processed", message_id=message.id, status=status, attempt=message.attempt_count)
    return status


def due(limit: int) -> list[int]:
    """Return messages to hand out, and put their next look off, so that they are not handed out each time.

    One that failed and whose time has come waits from here on as one that has just come: if the task that is
    sent for it is lost, it is handed out again.

    :param limit: how many at most.
    """
    waiting = Message.status.in_(("pending", "failed", "processing"))
    found = (
        select(Message.id)
        .where(waiting, Message.next_attempt_at <= now())
        .order_by(Message.next_attempt_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = list(db.session.scalars(found))
    # One that is being worked on keeps its time: the next worker must see by it that the last one is lost.
    db.session.execute(
        update(Message)
        .where(Message.id.in_(ids), Message.status != "processing")
        .values(status="pending", next_attempt_at=now() + timedelta(seconds=2 * inbox.FIRST_LOOK_SECONDS))
        .execution_options(synchronize_session=False)
    )
    db.session.commit()
    return ids
