"""A database that is not there says so, and what was acknowledged is there when it is back."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from postgres_server import NoPostgres, PostgresServer
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from actors.task_journal import TaskJournal
from balance.adapters.readers import Readers
from balance.adapters.sources import sql
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.spec import ONE_CPU, TaskSpec
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task
from balance.errors import ConfigurationError, SourceUnavailable, StaleEpoch, StorageError
from balance.storage import GroupCommit, Store, engines
from balance.storage.engines import open_engine, parsed
from balance.storage.upgrade import unhurried

TIMEOUT_S = 20

#: A server that hangs must not hang the tests of it: nobody waits for an answer for that long.
pytestmark = pytest.mark.timeout(60)


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


@contextmanager
def hanging(pid):
    """Stop a process of the server as a hung disk or machine would; its connections stay, and nobody answers."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def backend(connection):
    """Return the process of the server that answers a connection."""
    return connection.connection.driver_connection.info.backend_pid


@pytest.mark.parametrize("doing", ["a statement", "a commit"])
def test_a_server_that_hangs_is_given_up(server, monkeypatch, doing):
    """Though its kernel acknowledges all that is sent: the write fails in time, and the store goes on with another."""
    monkeypatch.setattr(engines, "STATEMENT_S", 0.2)
    monkeypatch.setattr(engines, "GRACE_S", 0.1)
    store = Store(server.new_database(), busy_timeout_s=0.2)
    fence = store.acquire("batches")

    def write(tx):
        if doing == "a commit":
            tx.put("c", "k", {"n": 1})
        hung.enter_context(hanging(backend(tx.tasks._sql._connection)))
        if doing == "a statement":
            tx.put("c", "k", {"n": 1})

    with (
        ExitStack() as hung,
        pytest.raises(StorageError, match=r"has said nothing for 0\.5 s\): it hangs"),
        store.transaction(fence) as tx,
    ):
        write(tx)
    with store.transaction(fence) as tx:
        tx.put("c", "k", {"n": 2})
    assert store.get("c", "k") == {"n": 2}
    store.close()


def test_a_connection_that_hangs_in_the_pool_is_replaced(server, monkeypatch):
    """Before it is used again it is asked whether it lives; one that does not say so in time is given up unseen."""
    monkeypatch.setattr(engines, "STATEMENT_S", 0.2)
    monkeypatch.setattr(engines, "GRACE_S", 0.1)
    store = Store(server.new_database(), busy_timeout_s=0.2)
    with store.reading() as tx:
        pid = backend(tx.tasks._sql._connection)
    with hanging(pid), store.reading() as tx:
        assert backend(tx.tasks._sql._connection) != pid
    store.close()


def test_a_statement_that_takes_too_long_is_ended_by_the_server(server, monkeypatch):
    """With its own word for it, and the connection stays; silence is counted from the last byte."""
    monkeypatch.setattr(engines, "STATEMENT_S", 0.1)
    store = Store(server.new_database(), busy_timeout_s=0.2)
    with pytest.raises(StorageError, match=r"statement timeout\): it has too much to do"), store.reading() as tx:
        pid = backend(tx.tasks._sql._connection)
        tx.tasks._sql._connection.exec_driver_sql("SELECT pg_sleep(60)")
    with store.reading() as tx:
        assert backend(tx.tasks._sql._connection) == pid
    store.close()


def test_bringing_tables_up_to_date_may_take_its_time(server, monkeypatch):
    """What runs inside `unhurried` has no limit, and what comes after it has one again."""
    monkeypatch.setattr(engines, "STATEMENT_S", 0.1)
    monkeypatch.setattr(engines, "GRACE_S", 0.1)
    engine = open_engine(parsed(server.new_database()), 0.0)
    with engine.connect() as connection:
        with connection.begin(), unhurried(connection):
            connection.exec_driver_sql("SELECT pg_sleep(0.5)")
        with pytest.raises(OperationalError, match="statement timeout"):
            connection.exec_driver_sql("SELECT pg_sleep(60)")
        connection.rollback()
        with hanging(backend(connection)), pytest.raises(OperationalError, match="has said nothing"):
            connection.exec_driver_sql("SELECT 1")
    engine.dispose()


def test_a_data_source_that_hangs_is_given_up(server, monkeypatch):
    """A registered query is answered, does not write, and is ended by the server, or given up where that hangs."""
    monkeypatch.setattr(sql, "GRACE_S", 0.1)
    url = server.new_database()
    pids = []
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE SEQUENCE numbers")
    engine.dispose()
    readers = Readers(trusted=True, timeout_s=0.3)
    assert readers.read(f"{url}&query=SELECT 1 AS n, now()::date > '2020-01-01' AS late", 1000).value() == [
        {"n": 1, "late": True}
    ]
    with pytest.raises(SourceUnavailable, match="read-only transaction"):
        readers.read(f"{url}&query=SELECT nextval('numbers')", 1000)
    with pytest.raises(SourceUnavailable, match="statement timeout"):
        readers.read(f"{url}&query=SELECT pg_sleep(60)", 1000)

    def stop(connection):
        pids.append(backend(connection))
        os.kill(pids[0], signal.SIGSTOP)

    monkeypatch.setattr(sql.SqlSource, "_bound_postgresql", lambda _self, connection: stop(connection))
    try:
        with pytest.raises(SourceUnavailable, match=r"has said nothing for 0\.4 s"):
            readers.read(f"{url}&query=SELECT 1", 1000)
    finally:
        os.kill(pids[0], signal.SIGCONT)


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
