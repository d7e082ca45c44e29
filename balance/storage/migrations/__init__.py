"""The revisions of the tables, oldest first, for Alembic.

``python -m balance.storage.migrations "what changes"`` writes the next one from the difference between the
last and `balance.storage.schema`; look it over, then raise `REVISION` there.
"""
