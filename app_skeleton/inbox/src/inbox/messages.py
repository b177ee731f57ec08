"""What the app does with messages, whether asked by a page or by the API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select

from .models import SOURCE_MAX_CHARACTERS, Message, db

BODY_MAX_CHARACTERS = 65_536
#: The largest BIGINT: a larger id is an error in the database driver, not a missing row.
ID_MAX = 2**63 - 1


class InvalidMessage(Exception):
    """A message cannot be taken.

    :param errors: field name to what is wrong with it.
    """

    def __init__(self, errors: Mapping[str, str]) -> None:
        """Keep what is wrong with each field."""
        super().__init__(", ".join(errors))
        self.errors = dict(errors)


@dataclass(frozen=True, slots=True)
class Page:
    """Some messages, newest first.

    :param next_cursor: where the next page starts, None on the last one.
    """

    messages: list[Message]
    next_cursor: int | None


def add(data: object) -> Message:
    """Store a message.

    :param data: ``{"source": ..., "body": ...}`` as it came out of JSON.
    :raises InvalidMessage: if a field is missing, unknown, or not as it should be.
    """
    if not isinstance(data, dict):
        raise InvalidMessage({"": "must be an object"})
    limits = {"source": SOURCE_MAX_CHARACTERS, "body": BODY_MAX_CHARACTERS}
    errors = {str(name): "is not a field of a message" for name in data.keys() - limits.keys()}
    for name, limit in limits.items():
        if problem := _problem(data.get(name), limit):
            errors[name] = problem
    if errors:
        raise InvalidMessage(errors)
    message = Message(source=data["source"], body=data["body"])
    db.session.add(message)
    db.session.commit()
    return message


def _problem(value: object, limit: int) -> str | None:
    if not isinstance(value, str):
        return "must be a string"
    if not value.strip():
        return "must not be empty"
    if len(value) > limit:
        return f"must have at most {limit} characters"
    # PostgreSQL stores neither: the first ends a C string, the second is no character.
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        return "must not contain NUL or lone surrogates"
    return None


def get(message_id: int) -> Message | None:
    """Return a message, or None if there is none with this id."""
    return db.session.get(Message, message_id) if message_id <= ID_MAX else None


def newest(limit: int, cursor: int | None = None) -> Page:
    """Return messages, newest first.

    Pages are cut by id and not by offset: messages that arrive meanwhile shift nothing, and page 1,000 costs
    what page 1 does.

    :param limit: how many at most.
    :param cursor: only those with a smaller id.
    """
    query = select(Message).order_by(Message.id.desc()).limit(limit + 1)
    if cursor is not None:
        query = query.where(Message.id < cursor)
    found = list(db.session.scalars(query))
    return Page(found[:limit], found[limit - 1].id if len(found) > limit else None)
