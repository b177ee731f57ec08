"""Let a message be a webhook: delivered once, processed, counted

Expands only: every new column may be NULL or has a default, so that the release before this one goes on
writing messages while this one takes over, and after a rollback. The defaults are constants, which PostgreSQL
adds without touching a row. The indexes are the next revision's.

Revises: 5b8e0d2c41aa
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "9d3f7c60be15"
down_revision = "5b8e0d2c41aa"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("delivery_id", sa.String(255)),
        sa.Column("event", sa.String(255), server_default="message", nullable=False),
        sa.Column("digest", sa.String(64)),
        sa.Column("title", sa.String(200), server_default="", nullable=False),
        sa.Column("request_id", sa.String(128)),
        sa.Column("status", sa.String(10), server_default="done", nullable=False),
        sa.Column("attempt_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempt_base", sa.Integer(), server_default="0", nullable=False),
        sa.Column("replay_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", MOMENT),
        sa.Column("processed_at", MOMENT),
    ]


def upgrade() -> None:
    for column in columns():
        op.add_column("message", column)
    _create_tables()


def _create_tables() -> None:
    op.create_table(
        "attempt",
        sa.Column("id", BIG, sa.Identity(), nullable=False),
        sa.Column("message_id", BIG, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("began_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("outcome", sa.String(10), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("worker", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_attempt"),
        sa.ForeignKeyConstraint(
            ["message_id"], ["message.id"], name="fk_attempt_message_id_message", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("message_id", "number", name="uq_attempt_message_id_number"),
    )
    op.create_table(
        "tally",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("source", sa.String(100), nullable=False),
        sa.Column("event", sa.String(255), nullable=False),
        sa.Column("count", BIG, nullable=False),
        sa.PrimaryKeyConstraint("day", "source", "event", name="pk_tally"),
    )
    op.create_table(
        "import_file",
        sa.Column("id", BIG, sa.Identity(), nullable=False),
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("storage_key", sa.String(255), nullable=False),
        sa.Column("bytes_total", BIG, nullable=False),
        *(
            sa.Column(name, BIG, server_default="0", nullable=False)
            for name in ("bytes_read", "line", "imported", "duplicates", "refused")
        ),
        sa.Column("status", sa.String(10), server_default="waiting", nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT),
        sa.Column("claimed_until", MOMENT),
        sa.Column("claim", sa.String(32)),
        sa.PrimaryKeyConstraint("id", name="pk_import_file"),
    )
    op.create_table(
        "import_problem",
        sa.Column("id", BIG, sa.Identity(), nullable=False),
        sa.Column("import_file_id", BIG, nullable=False),
        sa.Column("line", BIG, nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_import_problem"),
        sa.ForeignKeyConstraint(
            ["import_file_id"],
            ["import_file.id"],
            name="fk_import_problem_import_file_id_import_file",
            ondelete="CASCADE",
        ),
        sa.UniqueConstraint("import_file_id", "line", name="uq_import_problem_import_file_id_line"),
    )
    op.create_table(
        "report",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("storage_key", sa.String(255), nullable=False),
        sa.Column("messages", BIG, nullable=False),
        sa.Column("made_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("day", name="pk_report"),
    )


def downgrade() -> None:
    for table in ("report", "import_problem", "import_file", "tally", "attempt"):
        op.drop_table(table)
    for column in reversed(columns()):
        op.drop_column("message", column.name)
