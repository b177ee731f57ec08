"""The form above the list of messages, and what it asks for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import request
from wtforms import (
    DateTimeLocalField,
    Form,
    SearchField,
    SelectChoice,
    SelectField,
    StringField,
    ValidationError,
)
from wtforms.validators import Length

from . import inbox, sources
from .models import WORD_MAX_CHARACTERS
from .words import STATUS_WORDS

_ANY = SelectChoice("", "Any")


def _strip(text: str | None) -> str | None:
    return text.strip() if text else text


def storable(_form: Form, field: Any) -> None:
    """Refuse what PostgreSQL cannot compare.

    :raises ValidationError: if there is a NUL.
    """
    if "\0" in (field.data or ""):
        raise ValidationError("This holds a NUL, which no message does.")


class UTCField(DateTimeLocalField):
    """A moment in UTC, to the minute or the second; a day is its first moment."""

    def process_formdata(self, valuelist: list[str]) -> None:
        """Read what was sent.

        :raises ValueError: if it is no moment.
        """
        text = "".join(valuelist).strip()
        if not text:
            self.data = None
            return
        try:
            moment = datetime.fromisoformat(text)
            # Years 1 and 9999 have moments that lie outside of them in UTC.
            self.data = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            self.data = None
            raise ValueError("Write it as 2026-09-01 or 2026-09-01T12:30, in UTC.") from None

    def _value(self) -> str:
        # Browsers show nothing for a value with a zone, nor for one that is wrong.
        return self.data.strftime("%Y-%m-%dT%H:%M:%S") if self.data else ""


class ChoiceField(SelectField):
    """One of a list; nothing is chosen at first."""

    def __init__(self, label: str, **kwargs: Any) -> None:
        """Choose nothing at first."""
        super().__init__(label, default="", filters=[_strip], **kwargs)

    def pre_validate(self, form: Form) -> None:
        """Refuse what is not on the list.

        :raises ValidationError: in words that say what to do.
        """
        if self.data not in {value for value, *_ in self.iter_choices()}:
            raise ValidationError("Choose one of the list.")


class FilterForm(Form):
    """Which messages to list."""

    q = SearchField(
        "Search titles or a delivery id",
        [Length(max=inbox.SEARCH_MAX_CHARACTERS), storable],
        [_strip],
        render_kw={"autocomplete": "off", "spellcheck": "false"},
    )
    source = ChoiceField("Source")
    event = StringField(
        "Event",
        [Length(max=WORD_MAX_CHARACTERS), storable],
        [_strip],
        render_kw={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"},
    )
    status = ChoiceField("State", choices=[_ANY, *(SelectChoice(*one) for one in STATUS_WORDS.items())])
    since = UTCField("Received since (UTC)", render_kw={"step": "1"})
    until = UTCField("Received before (UTC)", render_kw={"step": "1"})

    def __init__(self) -> None:
        """Read the query of this request."""
        super().__init__(request.args)
        names = {source.name for source in sources.known()}
        # Of a source that is set up no more, or was imported, there may be messages as well.
        if self.source.data and len(self.source.data) <= WORD_MAX_CHARACTERS and "\0" not in self.source.data:
            names.add(self.source.data)
        self.source.choices = [_ANY, *map(SelectChoice, sorted(names))]

    def given(self) -> dict[str, str]:
        """Return what is filled in, by name, as links to other pages of the list carry it."""
        texts = {field.name: request.args.get(field.name, "").strip() for field in self}
        return {name: text for name, text in texts.items() if text}

    def wanted(self) -> inbox.Filters:
        """Return which messages are asked for; the form is valid."""
        return inbox.Filters(
            source=self.source.data or None,
            event=self.event.data or None,
            status=self.status.data or None,
            text=self.q.data or None,
            since=self.since.data,
            until=self.until.data,
        )
