"""What the API takes and gives."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import marshmallow as ma

from .inbox import SEARCH_MAX_CHARACTERS
from .models import OUTCOMES, STATUSES, WORD_MAX_CHARACTERS

LIMIT_DEFAULT = 50
LIMIT_MAX = 200
REPLAY_MAX = 1000


class UTCMoment(ma.fields.AwareDateTime):
    """A moment, put in UTC: the first hours of the year 1 and the last of 9999 do not exist everywhere."""

    def _deserialize(self, *args: Any, **kwargs: Any) -> Any:
        """Put it in UTC."""
        try:
            return super()._deserialize(*args, **kwargs).astimezone(UTC)
        except OverflowError as error:
            raise self.make_error("invalid", input=args[0], obj_type="datetime") from error


class Storable(ma.validate.Regexp):
    """Refuses what PostgreSQL cannot store or compare; the document tells clients of NUL by a pattern."""

    def __init__(self) -> None:
        """Make the pattern."""
        super().__init__(r"^[^\x00]*$", error="Must not contain NUL or lone surrogates.")

    def __call__(self, value: str) -> str:
        """Check a text.

        :raises ValidationError: if there is a NUL or a lone surrogate, which JSON can say and UTF-8 cannot.
        """
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise ma.ValidationError(self.error)
        return super().__call__(value)


no_nul = Storable()


def word(**kwargs: object) -> ma.fields.String:
    """Return a field for a name."""
    return ma.fields.String(validate=[ma.validate.Length(1, WORD_MAX_CHARACTERS), no_nul], **kwargs)


def cursor() -> ma.fields.String:
    """Return the field for where a page starts; :func:`inbox.paging.cursor_of` reads it."""
    # Eighteen digits are less than the largest id; none at all is the first page.
    pattern = ma.validate.Regexp(r"^([1-9][0-9]{0,17})?$", error="Must be the next_cursor of a page.")
    return ma.fields.String(validate=pattern, metadata={"description": "`next_cursor` of the page before"})


class Filters(ma.Schema):
    """Which messages."""

    source = word()
    event = word()
    status = ma.fields.String(validate=ma.validate.OneOf(STATUSES))
    q = ma.fields.String(
        attribute="text",
        validate=[ma.validate.Length(1, SEARCH_MAX_CHARACTERS), no_nul],
        metadata={"description": "Found in the title, or the whole delivery id"},
    )
    since = UTCMoment(format="iso", metadata={"description": "Received then or later"})
    until = UTCMoment(format="iso", metadata={"description": "Received before"})


class Listing(Filters):
    """Which messages, and how many of them."""

    limit = ma.fields.Integer(load_default=LIMIT_DEFAULT, validate=ma.validate.Range(1, LIMIT_MAX))
    cursor = cursor()


class Message(ma.Schema):
    """A webhook, without its body."""

    id = ma.fields.Integer(required=True)
    source = ma.fields.String(required=True)
    delivery_id = ma.fields.String(required=True, allow_none=True)
    event = ma.fields.String(required=True)
    title = ma.fields.String(required=True)
    status = ma.fields.String(required=True, validate=ma.validate.OneOf(STATUSES))
    attempt_count = ma.fields.Integer(required=True)
    received_at = ma.fields.AwareDateTime(required=True, format="iso")


class Attempt(ma.Schema):
    """One try to process a message."""

    number = ma.fields.Integer(required=True)
    began_at = ma.fields.AwareDateTime(required=True, format="iso")
    ended_at = ma.fields.AwareDateTime(required=True, format="iso", allow_none=True)
    outcome = ma.fields.String(required=True, validate=ma.validate.OneOf(OUTCOMES))
    error = ma.fields.String(required=True, allow_none=True)


class Detail(Message):
    """A webhook with its body as it came, and every try to process it."""

    body = ma.fields.String(required=True)
    request_id = ma.fields.String(required=True, allow_none=True)
    processed_at = ma.fields.AwareDateTime(required=True, format="iso", allow_none=True)
    next_attempt_at = ma.fields.AwareDateTime(required=True, format="iso", allow_none=True)
    attempts = ma.fields.List(ma.fields.Nested(Attempt), required=True)


class MessagePage(ma.Schema):
    """Some messages, newest first."""

    messages = ma.fields.List(ma.fields.Nested(Message), attribute="items", required=True)
    next_cursor = ma.fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "Where the next page starts, null on the last"},
    )


class ReplayDead(ma.Schema):
    """Which messages that were given up."""

    source = word()
    limit = ma.fields.Integer(load_default=100, validate=ma.validate.Range(1, REPLAY_MAX))


class Replayed(ma.Schema):
    """What will be processed again."""

    ids = ma.fields.List(ma.fields.Integer(), required=True)


class Provider(ma.Schema):
    """How a sender says it is."""

    name = ma.fields.String(required=True)
    state = ma.fields.String(required=True)
    words = ma.fields.String(required=True)


class ProviderList(ma.Schema):
    """Every sender with a status page."""

    providers = ma.fields.List(ma.fields.Nested(Provider), required=True)
