from __future__ import annotations

import threading

import pytest

from balance.errors import NotReady, StaleEpoch, StorageError, UnknownId
from balance.storage import GroupCommit, Store

TIMEOUT_S = 10


@pytest.fixture
def store(store_url):
    made = Store(store_url)
    yield made
    made.close()


@pytest.fixture
def commit(store):
    made = GroupCommit(store, store.acquire("batches"), max_queue=50)
    yield made
    made.close(TIMEOUT_S)


def gate(commit):
    """Hold the writer inside a commit until the returned event is set, so that others queue up behind it."""
    entered, release = threading.Event(), threading.Event()

    def hold(_tx):
        entered.set()
        release.wait(TIMEOUT_S)

    held = commit.submit(hold)
    assert entered.wait(TIMEOUT_S)
    return held, release


def put(n):
    return lambda tx: tx.put("c", f"{n:03}", {"n": n})


def limit_pages(store, more):
    """Let the database grow by so many pages: that is how SQLite plays a full disk."""
    with store._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + more}")


def test_writes_that_come_meanwhile_share_one_commit(store, commit):
    """Twenty callers behind a busy disk cost one commit, in their order."""
    held, release = gate(commit)
    futures = [commit.submit(put(n)) for n in range(20)]
    assert not any(future.done() for future in futures)
    release.set()
    for future in [held, *futures]:
        future.result(TIMEOUT_S)
    assert (commit.commits, commit.writes) == (2, 21)
    assert [body["n"] for _key, body in store.scan("c")] == list(range(20))


def test_a_write_that_raises_fails_alone(store, commit):
    """What it wrote before it raised is undone; its neighbours in the same commit are not."""
    _held, release = gate(commit)

    def broken(tx):
        tx.put("c", "half", {})
        raise RuntimeError("boom")

    first, bad, unknown, last = (
        commit.submit(put(1)),
        commit.submit(broken),
        commit.submit(lambda tx: tx.requests.finish([{"request_id": "nope", "state": "failed"}])),
        commit.submit(put(2)),
    )
    release.set()
    first.result(TIMEOUT_S)
    last.result(TIMEOUT_S)
    assert isinstance(bad.exception(TIMEOUT_S), RuntimeError)
    assert isinstance(unknown.exception(TIMEOUT_S), UnknownId)
    assert [key for key, _body in store.scan("c")] == ["001", "002"]


def test_a_full_queue_pushes_back(commit):
    """Who does not want to wait is told at once; nothing that was refused is written."""
    _held, release = gate(commit)
    for n in range(50):
        commit.submit(put(n), wait_s=0)
    with pytest.raises(StorageError, match="50 writes are waiting"):
        commit.submit(put(50), wait_s=0)
    release.set()
    commit.flush(TIMEOUT_S)
    assert commit.submit(lambda tx: len(tx.scan("c"))).result(TIMEOUT_S) == 50


def test_close_commits_what_was_handed_in(store):
    """Closing waits for the queue, then refuses more; closing twice is fine."""
    commit = GroupCommit(store, store.acquire("me"))
    futures = [commit.submit(put(n)) for n in range(10)]
    commit.close(TIMEOUT_S)
    commit.close(TIMEOUT_S)
    assert all(future.done() for future in futures)
    assert len(store.scan("c")) == 10
    with pytest.raises(NotReady):
        commit.submit(put(11))


def test_a_cancelled_write_is_not_written(store, commit):
    """A future that was cancelled before its turn leaves no trace."""
    _held, release = gate(commit)
    future = commit.submit(put(1))
    assert future.cancel()
    release.set()
    commit.flush(TIMEOUT_S)
    assert store.scan("c") == []


def test_a_taken_over_owner_is_told_by_every_future(store, commit):
    """The writer's thread survives it: each write gets `StaleEpoch`."""
    store.acquire("batches")
    for n in range(2):
        assert isinstance(commit.submit(put(n)).exception(TIMEOUT_S), StaleEpoch)
    assert store.scan("c") == []


def test_a_failure_of_the_database_fails_everyone_in_the_commit(tmp_path):
    """SQLite undoes the whole transaction when the disk is full: the writes before that one are not acknowledged."""
    store = Store(f"sqlite:///{tmp_path}/b.db")
    commit = GroupCommit(store, store.acquire("batches"))
    commit.submit(put(0)).result(TIMEOUT_S)
    limit_pages(store, 2)
    _held, release = gate(commit)
    before, large, after = (
        commit.submit(put(1)),
        commit.submit(lambda tx: tx.put("c", "large", {"v": "x" * 100_000})),
        commit.submit(put(2)),
    )
    release.set()
    for future in (before, large, after):
        with pytest.raises(StorageError, match="free some space"):
            future.result(TIMEOUT_S)
    assert [key for key, _body in store.scan("c")] == ["000"]
    limit_pages(store, 1000)
    commit.submit(put(3)).result(TIMEOUT_S)
    assert [key for key, _body in store.scan("c")] == ["000", "003"]
    commit.close(TIMEOUT_S)
    store.close()
