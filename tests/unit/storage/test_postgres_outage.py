"""A database that is not there says so, and what was acknowledged is there when it is back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from postgres_server import NoPostgres, PostgresServer

from actors.task_journal import TaskJournal
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.spec import ONE_CPU, TaskSpec
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task
from balance.errors import ConfigurationError, StaleEpoch, StorageError
from balance.storage import GroupCommit, Store
from balance.storage.engines import open_engine, parsed

TIMEOUT_S = 20


@pytest.fixture
def server(postgres: object) -> Iterator[PostgresServer]:
    """A server of the test's own, to stop and start."""
    try:
        made = PostgresServer()
    except NoPostgres as reason:
        pytest.skip(str(reason))
    made.start()
    yield made
    made.remove()


@pytest.mark.parametrize("at_once", [False, True])
def test_a_server_that_stops_loses_nothing_that_was_acknowledged(server, at_once):
    """Writes meanwhile fail and say what to do; afterwards the same store goes on, under the same fence."""
    store = Store(server.new_database())
    commit = GroupCommit(store, store.acquire("batches"))

    def accept(n):
        return commit.submit(lambda tx: tx.requests.accept([{"request_id": f"r{n}", "model_id": "m"}]))

    assert accept(1).result(TIMEOUT_S) == ["r1"]
    server.stop(at_once=at_once)
    for n in (2, 3):
        with pytest.raises(StorageError, match=r"failed .*: (the|no) server"):
            accept(n).result(TIMEOUT_S)
    with pytest.raises(StorageError, match="no server answers there"), store.reading():
        pass
    server.start()
    assert accept(4).result(TIMEOUT_S) == ["r4"]
    account = store.conservation()
    assert (account["accepted"], account["in_flight"], account["holds"]) == (2, 2, True)
    commit.close(TIMEOUT_S)
    store.close()


def test_a_server_that_dies_inside_a_transaction(server):
    """Nobody in that commit is acknowledged, the writes before the failure neither."""
    store = Store(server.new_database())
    commit = GroupCommit(store, store.acquire("batches"))
    entered, release = threading.Event(), threading.Event()

    def hold(tx):
        tx.put("c", "before", {})
        entered.set()
        release.wait(TIMEOUT_S)

    held = commit.submit(hold)
    assert entered.wait(TIMEOUT_S)
    server.stop(at_once=True)
    release.set()
    with pytest.raises(StorageError):
        held.result(TIMEOUT_S)
    server.start()
    assert store.scan("c") == []
    commit.close(TIMEOUT_S)
    store.close()


def test_a_network_that_goes_silent_is_noticed(postgres):
    """Every connection gives up on a server that acknowledges nothing, long before TCP itself would."""
    engine = open_engine(parsed(postgres.new_database()), 5.0)
    with engine.connect() as connection:
        said = connection.connection.driver_connection.info.get_parameters()
    engine.dispose()
    assert (said["tcp_user_timeout"], said["keepalives_idle"], said["connect_timeout"]) == ("30000", "10", "5")


def test_the_journal_makes_up_for_an_outage(server):
    """What was recorded while the server was away is on disk once it is back, submissions and ends."""
    store = Store(server.new_database())
    commit = GroupCommit(store, store.acquire("scheduler"))
    journal = TaskJournal(store, commit)
    tasks = [Task(TaskSpec(f"t{n}"), None, Shape(ONE_CPU), n, 1.0) for n in range(1, 501)]
    journal.record(tasks[:250])
    asyncio.run(journal.durable())
    server.stop(at_once=True)
    journal.record(tasks[250:])
    with pytest.raises(StorageError):
        asyncio.run(journal.durable())
    for task in tasks[::2]:
        task.state, task.finished_at = State.COMPLETED, 2.0
    journal.record(tasks[::2])
    server.start()
    asyncio.run(journal.durable())
    with store.reading() as tx:
        assert tx.tasks.counts_by_state() == {"completed": 250, "waiting": 250}
    commit.close(TIMEOUT_S)
    store.close()


def test_a_transaction_left_open_by_an_orphan_holds_nobody_up_for_long(server):
    """A takeover while the old owner is in the middle of a write fails after the time given, and then succeeds."""
    url = server.new_database()
    old, new = Store(url), Store(url, busy_timeout_s=0.05)
    fence = old.acquire("scheduler")
    with pytest.raises(StorageError), old.transaction(fence) as tx:
        tx.put("c", "k", {"by": "orphan"})
        with pytest.raises(StorageError, match="another process holds"):
            new.acquire("scheduler")
        server.stop()
    server.start()
    assert new.acquire("scheduler").epoch == 2
    with pytest.raises(StaleEpoch), old.transaction(fence):
        pass
    old.close()
    new.close()


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("postgresql+psycopg://balance@/none?host={folder}", "create it, or correct the URL"),
        ("postgresql+psycopg://balance@127.0.0.1:1/none", "no server answers there"),
    ],
)
def test_a_url_that_leads_nowhere(server, url, advice):
    """The message says what to do, and names no password."""
    with pytest.raises(StorageError, match=advice):
        Store(url.format(folder=server.folder))


def test_a_driver_that_is_not_installed(monkeypatch):
    """The message names the extra to install."""
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'balance\[postgres\]'"):
        Store("postgresql+psycopg://balance@127.0.0.1/none")
