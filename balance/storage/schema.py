"""The tables of the durable state, in SQL that SQLite and PostgreSQL both speak.

Every table has one writer (an *owner* with an epoch, see `balance.storage.fence`), apart from
``owners``.  Times are POSIX seconds.  JSON columns hold JSON values only, blobs hold what
Balance itself pickled and never what came in a message.

A change of a table is a revision in `balance.storage.migrations` as well; a test holds that both come to the
same.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.types import TypeEngine

#: The revision in `balance.storage.migrations` that comes to these tables.
REVISION = "0001"

metadata = MetaData()


def _text(length: int) -> TypeEngine[str]:
    """Return text that sorts by code point, as SQLite does: PostgreSQL would go by the language of the server."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


# SQLite numbers rows by itself only where the key is spelled INTEGER.
_Seq = BigInteger().with_variant(Integer(), "sqlite")
# none_as_null: a missing outcome is SQL NULL, so that "no outcome yet" can be asked for in SQL.
# Not PostgreSQL's JSONB, which orders keys anew and refuses the character NUL: both keep what they were given.
_Json = JSON(none_as_null=True)

#: Who may write: the highest epoch given out for each owner.
owners = Table(
    "owners", metadata, Column("owner", _text(512), primary_key=True), Column("epoch", BigInteger, nullable=False)
)

#: Running totals that are *not* computed from rows, so that the rows can be checked against them.
counters = Table(
    "counters", metadata, Column("name", _text(128), primary_key=True), Column("value", BigInteger, nullable=False)
)

documents = Table(
    "documents",
    metadata,
    Column("collection", _text(128), primary_key=True),
    Column("key", _text(512), primary_key=True),
    Column("body", _Json, nullable=False),
    Column("updated_at", Float, nullable=False),
    sqlite_with_rowid=False,
)

# A task's life in three tables, each written once and in the order of `seq`, so that every write but that of
# the unique id is an append: what was submitted, what is not over, and what became of it.
tasks = Table(
    "tasks",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=False),
    Column("task_id", _text(512), nullable=False, unique=True),
    Column("spec", Text, nullable=False),
    Column("submitted_at", Float, nullable=False),
    Column("function_hash", _text(128)),
    Column("call", LargeBinary),
)

#: The tasks that are not over: what a restarted scheduler reads, however many have been.
open_tasks = Table(
    "open_tasks",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=False),
    Column("state", _text(32), nullable=False),
    Column("eligible_at", Float),
    Column("progress", Text),
)

#: The last column may be large; SQLite and PostgreSQL read it only where it is asked for.
task_ends = Table(
    "task_ends",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=False),
    Column("state", _text(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("eligible_at", Float),
    Column("started_at", Float),
    Column("finished_at", Float, nullable=False),
    Column("node", _text(512)),
    Column("run_s", Float),
    Column("progress", Text),
    Column("output", Text),
    Column("value", LargeBinary),
)
Index("task_ends_by_finish", task_ends.c.finished_at)

functions = Table(
    "functions",
    metadata,
    Column("hash", _text(128), primary_key=True),
    Column("blob", LargeBinary, nullable=False),
)

requests = Table(
    "requests",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("request_id", _text(512), nullable=False, unique=True),
    Column("model_id", _text(512), nullable=False),
    Column("key", _text(512)),
    Column("priority", Integer, nullable=False),
    Column("state", _text(16), nullable=False),
    Column("accepted_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("executed_as", _text(512)),
    Column("task_id", _text(512)),
    Column("payload", _Json),
    Column("outcome", _Json),
    CheckConstraint("state IN ('accepted', 'completed', 'failed', 'dead_lettered')", name="requests_state"),
    CheckConstraint("(state = 'accepted') = (finished_at IS NULL)", name="requests_finish"),
)
Index("requests_by_state", requests.c.state, requests.c.seq)
Index("requests_by_finish", requests.c.finished_at)

decisions = Table(
    "decisions",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("digest", _text(128), nullable=False),
    Column("plan", _Json, nullable=False),
    Column("outcome", _Json),
)

samples = Table(
    "samples",
    metadata,
    Column("series", _text(512), primary_key=True),
    Column("at", Float, primary_key=True),
    Column("value", Float, nullable=False),
    sqlite_with_rowid=False,
)
