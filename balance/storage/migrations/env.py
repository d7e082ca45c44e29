"""Run by Alembic: applies revisions on the connection, and in the transaction, that its caller has opened."""

from __future__ import annotations

from alembic import context

from balance.storage.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
    compare_type=True,
)
context.run_migrations()
