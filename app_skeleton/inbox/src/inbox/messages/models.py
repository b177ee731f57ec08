"""The domain's tables."""

from __future__ import annotations

from datetime import date

from sqlalchemy import DDL, ForeignKey, Index, String, Text, UniqueConstraint, event, func, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from ..models import BigInt, Id, Model, Moment

SOURCE_MAX_CHARACTERS = 100
WORD_MAX_CHARACTERS = 255
TITLE_MAX_CHARACTERS = 200

#: Not begun; being worked on; done; to be tried again; given up, until somebody replays it.
STATUSES = ("pending", "processing", "done", "failed", "dead")
OUTCOMES = ("running", "done", "failed", "lost")


class Message(Model):
    """One webhook.

    Rows that a release before this one writes have source and body alone: every other column may be NULL or
    has a default, and such rows count as done.
    """

    __tablename__ = "message"
    __table_args__ = (
        # Indexes and not constraints: an index can be made without stopping those who write.
        # The id first: a search for one has no source.
        Index("uq_message_delivery_id_source", "delivery_id", "source", unique=True),
        Index("uq_message_source_digest", "source", "digest", unique=True),
        # What beat asks for every few seconds: the few rows that wait, among millions that do not.
        Index(
            "ix_message_due",
            "next_attempt_at",
            postgresql_where=text("status IN ('pending', 'failed', 'processing')"),
            sqlite_where=text("status IN ('pending', 'failed', 'processing')"),
        ),
        Index("ix_message_source_id", "source", "id"),
        Index("ix_message_status_id", "status", "id"),
        Index("ix_message_received_at", "received_at"),
        # For a search that finds a word anywhere in a title.
        Index(
            "ix_message_title_trgm",
            "title",
            postgresql_using="gin",
            postgresql_ops={"title": "gin_trgm_ops"},
        ),
    )

    id: Mapped[Id]
    source: Mapped[str] = mapped_column(String(SOURCE_MAX_CHARACTERS))
    body: Mapped[str] = mapped_column(Text)
    received_at: Mapped[Moment] = mapped_column(server_default=func.current_timestamp())
    delivery_id: Mapped[str | None] = mapped_column(String(WORD_MAX_CHARACTERS))
    event: Mapped[str] = mapped_column(String(WORD_MAX_CHARACTERS), server_default="message")
    digest: Mapped[str | None] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(String(TITLE_MAX_CHARACTERS), server_default="")
    request_id: Mapped[str | None] = mapped_column(String(128))
    status: Mapped[str] = mapped_column(String(10), server_default="done")
    attempt_count: Mapped[int] = mapped_column(server_default="0")
    #: Attempts before the last replay: a replay has all its tries before it.
    attempt_base: Mapped[int] = mapped_column(server_default="0")
    replay_count: Mapped[int] = mapped_column(server_default="0")
    #: When to try it, or, while it is being worked on, when whoever does so is given up for lost.
    next_attempt_at: Mapped[Moment | None]
    processed_at: Mapped[Moment | None]

    attempts: Mapped[list[Attempt]] = relationship(
        back_populates="message", order_by="Attempt.number.desc()", lazy="raise", passive_deletes=True
    )


# Where tables are made without migrations, in tests. Trusted since PostgreSQL 13: the database's owner may.
event.listen(
    Message.__table__,
    "before_create",
    DDL("CREATE EXTENSION IF NOT EXISTS pg_trgm").execute_if(dialect="postgresql"),
)


class Attempt(Model):
    """One try to process a message."""

    __tablename__ = "attempt"
    __table_args__ = (UniqueConstraint("message_id", "number"),)

    id: Mapped[Id]
    message_id: Mapped[int] = mapped_column(BigInt, ForeignKey("message.id", ondelete="CASCADE"))
    number: Mapped[int]
    began_at: Mapped[Moment]
    ended_at: Mapped[Moment | None]
    outcome: Mapped[str] = mapped_column(String(10))
    error: Mapped[str | None] = mapped_column(Text)
    worker: Mapped[str] = mapped_column(String(WORD_MAX_CHARACTERS))

    message: Mapped[Message] = relationship(back_populates="attempts", lazy="raise")


class Tally(Model):
    """How many messages of a kind a day (in UTC) brought; each message is counted once, when first done."""

    __tablename__ = "tally"

    day: Mapped[date] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(String(SOURCE_MAX_CHARACTERS), primary_key=True)
    event: Mapped[str] = mapped_column(String(WORD_MAX_CHARACTERS), primary_key=True)
    count: Mapped[int] = mapped_column(BigInt)


class ImportFile(Model):
    """A CSV file that was handed in, and how far reading it has come."""

    __tablename__ = "import_file"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(255))
    storage_key: Mapped[str] = mapped_column(String(255))
    bytes_total: Mapped[int] = mapped_column(BigInt)
    bytes_read: Mapped[int] = mapped_column(BigInt, server_default="0")
    line: Mapped[int] = mapped_column(BigInt, server_default="0")
    imported: Mapped[int] = mapped_column(BigInt, server_default="0")
    duplicates: Mapped[int] = mapped_column(BigInt, server_default="0")
    refused: Mapped[int] = mapped_column(BigInt, server_default="0")
    #: `waiting`, `reading`, `done`, `failed`
    status: Mapped[str] = mapped_column(String(10), server_default="waiting")
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[Moment]
    ended_at: Mapped[Moment | None]
    #: Who reads it now, a new one for each piece; NULL: nobody does.
    claim: Mapped[str | None] = mapped_column(String(32))
    #: When who reads it is given up for lost, or, while nobody does, when to hand it out again.
    claimed_until: Mapped[Moment | None]


class ImportProblem(Model):
    """A line of a CSV file that could not be taken."""

    __tablename__ = "import_problem"
    __table_args__ = (UniqueConstraint("import_file_id", "line"),)

    id: Mapped[Id]
    import_file_id: Mapped[int] = mapped_column(BigInt, ForeignKey("import_file.id", ondelete="CASCADE"))
    line: Mapped[int] = mapped_column(BigInt)
    error: Mapped[str] = mapped_column(Text)


class Report(Model):
    """A day's report, as a PDF in the storage."""

    __tablename__ = "report"

    day: Mapped[date] = mapped_column(primary_key=True)
    storage_key: Mapped[str] = mapped_column(String(255))
    messages: Mapped[int] = mapped_column(BigInt)
    made_at: Mapped[Moment]
