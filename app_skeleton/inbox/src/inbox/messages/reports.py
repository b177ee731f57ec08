"""A page or more of PDF for each day (in UTC): what came, of which kind, and what became of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import structlog
from sqlalchemy import func, select

from .. import storage
from ..models import db, now
from . import inbox
from .models import STATUSES, Message, Report, Tally

#: Days that are caught up on after nobody worked for a while.
DAYS_BACK = 7
CHART_DAYS = 14
LISTED_MAX = 400

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Figures:
    """What a report says.

    :param kinds: how many messages by source and event, counted when they were done.
    :param states: how many that came that day are in which state.
    :param days: how many a day, up to the report's, the earliest first.
    """

    day: date
    kinds: Sequence[tuple[str, str, int]]
    states: dict[str, int]
    days: Sequence[tuple[date, int]]

    @property
    def total(self) -> int:
        """How many messages there are of all kinds."""
        return sum(count for _, _, count in self.kinds)


def make_missing() -> int:
    """Make the reports of yesterday and the days before; return how many were made.

    One that is there is made again if messages of its day were counted since: processed late, or imported.

    :raises inbox.storage.StorageError: if one cannot be stored.
    """
    today = now().date()
    days = [today - timedelta(days=back) for back in range(DAYS_BACK, 0, -1)]
    there = dict(iter(db.session.execute(select(Report.day, Report.messages).where(Report.day.in_(days)))))
    counted = _counted(days[0], days[-1])
    # No transaction stays open while files are made and stored.
    db.session.commit()
    return sum(_make(day) for day in days if there.get(day) != counted.get(day, 0))


def listed(limit: int = LISTED_MAX) -> Sequence[Report]:
    """Return the reports, the newest first."""
    return db.session.scalars(select(Report).order_by(Report.day.desc()).limit(limit)).all()


def get(day: date) -> Report | None:
    """Return a day's report; its file is in the storage under ``storage_key``."""
    return db.session.get(Report, day)


def _make(day: date) -> bool:
    found = figures(day)
    db.session.commit()
    key = f"reports/{day.isoformat()}.pdf"
    # In place of the one there may be, which is seen until this one is there as a whole. If the row is not
    # written after it, the count there is still the old one, and the report is made again.
    storage.current().save(key, io.BytesIO(render(found)))
    values = {"storage_key": key, "messages": found.total, "made_at": now()}
    statement = inbox.insert(Report).values(day=day, **values)
    # Another worker may have made it meanwhile: of the same figures, in the same place.
    statement = statement.on_conflict_do_update(
        index_elements=["day"], set_=values, where=Report.messages != found.total
    )
    is_ours = db.session.scalar(statement.returning(Report.day)) is not None
    db.session.commit()
    if is_ours:
        log.info("report made", day=day.isoformat(), messages=found.total)
    return is_ours


def figures(day: date) -> Figures:
    """Count what a report says."""
    kinds = select(Tally.source, Tally.event, Tally.count).where(Tally.day == day)
    begins = datetime.combine(day, time(), UTC)
    states = (
        select(Message.status, func.count())
        .where(Message.received_at >= begins, Message.received_at < begins + timedelta(days=1))
        .group_by(Message.status)
    )
    first = day - timedelta(days=CHART_DAYS - 1)
    counted = _counted(first, day)
    span = [first + timedelta(days=number) for number in range(CHART_DAYS)]
    return Figures(
        day=day,
        kinds=[
            tuple(row)
            for row in db.session.execute(kinds.order_by(Tally.source, Tally.count.desc(), Tally.event))
        ],
        states=dict.fromkeys(STATUSES, 0) | dict(db.session.execute(states).all()),
        days=[(each, counted.get(each, 0)) for each in span],
    )


def _counted(first: date, last: date) -> dict[date, int]:
    """Return how many messages were counted a day, of the days that had any."""
    days = select(Tally.day, func.sum(Tally.count)).where(Tally.day.between(first, last)).group_by(Tally.day)
    return {day: int(count) for day, count in db.session.execute(days)}


def render(found: Figures) -> bytes:
    """Return a report as PDF: of the same figures the same bytes."""
    # Here: importing what draws takes a fifth of the app's start, and a worker alone needs it, once a day.
    from .report_pages import draw

    return draw(found)
