"""An empty database gets the latest tables, an older one is brought to them, a newer one is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, NullPool, create_engine, inspect, text

import balance.storage.migrations
from balance.errors import StorageError
from balance.storage import Store, upgrade
from balance.storage.schema import REVISION, metadata


def opened(url: str) -> Engine:
    return create_engine(url, poolclass=NullPool)


def migrate(url: str, revision: str) -> None:
    config = upgrade.alembic_config()
    with opened(url).connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def differences(url: str) -> list[object]:
    with opened(url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "target_metadata": metadata})
        return compare_metadata(context, metadata)


def execute(url: str, statement: str) -> None:
    with opened(url).connect() as connection, connection.begin():
        connection.execute(text(statement))


def test_the_revision_in_the_code_is_the_last(empty_url):
    """`REVISION` is raised with every revision that is written."""
    assert ScriptDirectory.from_config(upgrade.alembic_config()).get_heads() == [REVISION]


def test_revisions_and_tables_come_to_the_same(empty_url):
    """What the revisions build from nothing is what an empty database gets at once."""
    migrate(empty_url, "head")
    assert differences(empty_url) == []
    Store(empty_url).close()


def test_an_empty_database_gets_everything(empty_url):
    """And is at the last revision, so that later ones find their place."""
    Store(empty_url).close()
    assert differences(empty_url) == []
    migrate(empty_url, "head")


def test_an_older_database_is_brought_up_to_date(empty_url, tmp_path, monkeypatch):
    """Opening it applies the revisions that came since, once, and what is in it stays."""
    store = Store(empty_url)
    with store.transaction(store.acquire("me")) as tx:
        tx.put("c", "k", {"v": 1})
    store.close()
    scripts = tmp_path / "migrations"
    shutil.copytree(Path(balance.storage.migrations.__file__).parent, scripts)
    (scripts / "versions" / "0002_more.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\nrevision, down_revision = '0002', '0001'\n"
        "def upgrade():\n    op.add_column('documents', sa.Column('note', sa.Text()))\n"
    )
    config = upgrade.alembic_config()
    config.set_main_option("script_location", str(scripts))
    monkeypatch.setattr(upgrade, "alembic_config", lambda: config)
    monkeypatch.setattr(upgrade, "REVISION", "0002")
    monkeypatch.setattr("balance.storage.store.REVISION", "0002")
    for _ in range(2):
        store = Store(empty_url)
        assert store.get("c", "k") == {"v": 1}
        store.close()
    with opened(empty_url).connect() as connection:
        assert upgrade.revision_of(connection) == "0002"
        assert connection.execute(text("SELECT note FROM documents")).all() == [(None,)]


def test_a_revision_that_fails_changes_nothing(empty_url, tmp_path, monkeypatch):
    """A database is at one revision or at the next, never between them."""
    Store(empty_url).close()
    scripts = tmp_path / "migrations"
    shutil.copytree(Path(balance.storage.migrations.__file__).parent, scripts)
    (scripts / "versions" / "0002_more.py").write_text(
        "import sqlalchemy as sa\nfrom alembic import op\nrevision, down_revision = '0002', '0001'\n"
        "def upgrade():\n    op.add_column('documents', sa.Column('note', sa.Text()))\n    op.execute('nonsense')\n"
    )
    config = upgrade.alembic_config()
    config.set_main_option("script_location", str(scripts))
    with monkeypatch.context() as patch:
        patch.setattr(upgrade, "alembic_config", lambda: config)
        patch.setattr(upgrade, "REVISION", "0002")
        patch.setattr("balance.storage.store.REVISION", "0002")
        with pytest.raises(StorageError, match="nonsense"):
            Store(empty_url)
    assert differences(empty_url) == []
    Store(empty_url).close()


def test_a_store_of_a_newer_balance_is_refused(empty_url):
    """An unknown schema is never written to; the message says what to do."""
    Store(empty_url).close()
    execute(empty_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StorageError, match=r"revision '9999'.* run the Balance that wrote it"):
        Store(empty_url)


def test_tables_of_something_else_are_not_touched(empty_url):
    """A database with an ``owners`` table of its own is somebody else's."""
    execute(empty_url, "CREATE TABLE owners (name TEXT)")
    with pytest.raises(StorageError, match="name another store"):
        Store(empty_url)
    with opened(empty_url).connect() as connection:
        assert inspect(connection).get_table_names() == ["owners"]
