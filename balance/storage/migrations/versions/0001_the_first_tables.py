"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0001"
down_revision = None

_SEQ = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_JSON = sa.JSON(none_as_null=True)


def _text(length: int) -> TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Create them all."""
    _create_shared()
    _create_tasks()
    _create_requests()


def _create_shared() -> None:
    op.create_table(
        "owners",
        sa.Column("owner", _text(512), primary_key=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "counters",
        sa.Column("name", _text(128), primary_key=True),
        sa.Column("value", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "documents",
        sa.Column("collection", _text(128), primary_key=True),
        sa.Column("key", _text(512), primary_key=True),
        sa.Column("body", _JSON, nullable=False),
        sa.Column("updated_at", sa.Float(), nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "decisions",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("digest", _text(128), nullable=False),
        sa.Column("plan", _JSON, nullable=False),
        sa.Column("outcome", _JSON),
    )
    op.create_table(
        "samples",
        sa.Column("series", _text(512), primary_key=True),
        sa.Column("at", sa.Float(), primary_key=True),
        sa.Column("value", sa.Float(), nullable=False),
        sqlite_with_rowid=False,
    )


def _create_tasks() -> None:
    op.create_table(
        "tasks",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
        sa.Column("task_id", _text(512), nullable=False, unique=True),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("submitted_at", sa.Float(), nullable=False),
        sa.Column("function_hash", _text(128)),
        sa.Column("call", sa.LargeBinary()),
    )
    op.create_table(
        "open_tasks",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
        sa.Column("state", _text(32), nullable=False),
        sa.Column("eligible_at", sa.Float()),
        sa.Column("progress", sa.Text()),
    )
    op.create_table(
        "task_ends",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
        sa.Column("state", _text(32), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("eligible_at", sa.Float()),
        sa.Column("started_at", sa.Float()),
        sa.Column("finished_at", sa.Float(), nullable=False),
        sa.Column("node", _text(512)),
        sa.Column("run_s", sa.Float()),
        sa.Column("progress", sa.Text()),
        sa.Column("output", sa.Text()),
        sa.Column("value", sa.LargeBinary()),
    )
    op.create_index("task_ends_by_finish", "task_ends", ["finished_at"])
    op.create_table(
        "functions",
        sa.Column("hash", _text(128), primary_key=True),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
    )


def _create_requests() -> None:
    op.create_table(
        "requests",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("request_id", _text(512), nullable=False, unique=True),
        sa.Column("model_id", _text(512), nullable=False),
        sa.Column("key", _text(512)),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("state", _text(16), nullable=False),
        sa.Column("accepted_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float()),
        sa.Column("executed_as", _text(512)),
        sa.Column("task_id", _text(512)),
        sa.Column("payload", _JSON),
        sa.Column("outcome", _JSON),
        sa.CheckConstraint("state IN ('accepted', 'completed', 'failed', 'dead_lettered')", name="requests_state"),
        sa.CheckConstraint("(state = 'accepted') = (finished_at IS NULL)", name="requests_finish"),
    )
    op.create_index("requests_by_state", "requests", ["state", "seq"])
    op.create_index("requests_by_finish", "requests", ["finished_at"])
