"""Index messages, while others go on writing them

In a revision of its own: made concurrently, an index is made outside any transaction, and a revision that
fails in between must be one that can simply be run again.

Revises: 9d3f7c60be15
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "c41d2e8a7f06"
down_revision = "9d3f7c60be15"
branch_labels = None
depends_on = None

WAITING = sa.text("status IN ('pending', 'failed', 'processing')")
INDEXES: dict[str, tuple[list[str], dict[str, Any]]] = {
    "uq_message_delivery_id_source": (["delivery_id", "source"], {"unique": True}),
    "uq_message_source_digest": (["source", "digest"], {"unique": True}),
    "ix_message_due": (["next_attempt_at"], {"postgresql_where": WAITING, "sqlite_where": WAITING}),
    "ix_message_source_id": (["source", "id"], {}),
    "ix_message_status_id": (["status", "id"], {}),
    "ix_message_received_at": (["received_at"], {}),
    "ix_message_title_trgm": (
        ["title"],
        {"postgresql_using": "gin", "postgresql_ops": {"title": "gin_trgm_ops"}},
    ),
}


def upgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        _create()
        return
    # Trusted since PostgreSQL 13: the database's owner may.
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    with op.get_context().autocommit_block():
        # It waits for transactions that are older, and nobody waits for it meanwhile.
        timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("SET lock_timeout = 0")
        # What a run that was broken off left half made has the name of an index and is none.
        for name in INDEXES:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        _create(postgresql_concurrently=True)
        op.execute(f"SET lock_timeout = '{timeout}'")


def _create(**how: Any) -> None:
    for name, (columns, options) in INDEXES.items():
        op.create_index(name, "message", columns, **options, **how)


def downgrade() -> None:
    for name in reversed(INDEXES):
        op.drop_index(name, "message")
