from __future__ import annotations

import sqlite3
import stat
import threading

import pytest

from balance.clock import FakeClock
from balance.errors import ConfigurationError, InvalidValue, NotReady, StaleEpoch, StorageError, UnknownId
from balance.storage import Fence, Store, StoreJournal


@pytest.fixture
def store(store_url):
    made = Store(store_url, clock=FakeClock())
    yield made
    made.close()


def test_a_document_comes_back_as_it_was_written(store):
    """Put, get, scan and delete agree, whatever script the keys and values are in."""
    fence = store.acquire("me")
    with store.transaction(fence) as tx:
        tx.put("c", "کلید", {"value": ["متن", 1, None, {"deep": True}]})
        tx.put("c", "a", {"v": 1})
        tx.put("c", "a", {"v": 2})
        tx.put("other", "a", {"v": 3})
        assert tx.get("c", "a") == {"v": 2}
    assert store.get("c", "کلید") == {"value": ["متن", 1, None, {"deep": True}]}
    assert store.scan("c") == [("a", {"v": 2}), ("کلید", {"value": ["متن", 1, None, {"deep": True}]})]
    with store.transaction(fence) as tx:
        assert tx.delete("c", "a") is True
        assert tx.delete("c", "a") is False
    assert store.get("c", "a") is None


@pytest.mark.parametrize("body", [{"v": object()}, {"v": float("nan")}, {"v": {1, 2}}, ["no", "dict"]])
def test_what_is_not_json_is_refused(store, body):
    """A value that JSON can't hold raises, and the transaction it was in writes nothing."""
    fence = store.acquire("me")
    with pytest.raises(InvalidValue), store.transaction(fence) as tx:
        tx.put("c", "first", {"v": 1})
        tx.put("c", "bad", body)
    assert store.scan("c") == []


def test_a_transaction_that_raises_leaves_nothing(store):
    """All or nothing: an exception of the caller's own undoes the whole block."""
    fence = store.acquire("me")
    with pytest.raises(ZeroDivisionError), store.transaction(fence) as tx:
        tx.put("c", "k", {"v": 1})
        tx.tasks.add([(1, "t", "{}", 0.0, None, None)])
        tx.tasks.set_open([(1, "queued", 0.0, None)])
        raise ZeroDivisionError
    with store.reading() as tx:
        assert tx.scan("c") == []
        assert tx.tasks.counts_by_state() == {}


def test_the_older_of_two_owners_may_not_write(store):
    """After a takeover every older fence is stale, for good, and other owners are not touched."""
    old, other = store.acquire("scheduler"), store.acquire("allocator")
    new = store.acquire("scheduler")
    assert (old.epoch, new.epoch, other.epoch) == (1, 2, 1)
    with pytest.raises(StaleEpoch) as caught, store.transaction(old) as tx:
        tx.put("c", "k", {"by": "old"})
    assert caught.value.details == {"owner": "scheduler", "epoch": 1, "current": 2}
    for fence in (new, other):
        with store.transaction(fence) as tx:
            tx.put("c", "k", {"by": fence.owner})
    assert store.get("c", "k") == {"by": "allocator"}


def test_a_fence_of_another_store_is_stale(store):
    """A fence that this store never gave out (its file was replaced) can't write."""
    with pytest.raises(StaleEpoch), store.transaction(Fence("ghost", 1)):
        pass


def test_a_reading_transaction_does_not_write(store):
    """Every write inside `reading` is refused."""
    with pytest.raises(StorageError, match="only reads"), store.reading() as tx:
        tx.put("c", "k", {})


def test_a_second_transaction_in_the_same_thread_is_refused_at_once(store):
    """It would wait for itself for ever; it says so instead."""
    fence = store.acquire("me")
    with store.transaction(fence) as tx:
        tx.put("c", "k", {"v": 1})
        with pytest.raises(StorageError, match="open already"), store.transaction(fence):
            pass
    assert store.get("c", "k") == {"v": 1}


def test_threads_take_turns(store):
    """Counting up from many threads loses no step, and readers meanwhile see whole transactions."""
    fence = store.acquire("me")
    with store.transaction(fence) as tx:
        tx.put("c", "n", {"a": 0, "b": 0})
    torn = []

    def count():
        for _ in range(10):
            with store.transaction(fence) as tx:
                value = tx.get("c", "n")["a"] + 1
                tx.put("c", "n", {"a": value, "b": value})
            seen = store.get("c", "n")
            if seen["a"] != seen["b"]:
                torn.append(seen)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get("c", "n") == {"a": 40, "b": 40}
    assert torn == []


def test_a_reader_sees_one_moment_while_another_writes(tmp_path):
    """A file store's reader is neither blocked by a writer nor shown half of what it does."""
    store = Store(f"sqlite:///{tmp_path}/b.db")
    fence = store.acquire("me")
    with store.reading() as before:
        assert before.scan("c") == []
        with store.transaction(fence) as tx:
            tx.put("c", "k", {})
        assert before.scan("c") == []
    assert store.scan("c") == [("k", {})]
    store.close()


def test_the_file_is_private_and_survives(tmp_path):
    """Nobody else may read the file, its log included; a second process finds everything."""
    path = tmp_path / "b.db"
    store = Store(f"sqlite:///{path}")
    with store.transaction(store.acquire("me")) as tx:
        tx.put("c", "k", {"v": 1})
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    again = Store(f"sqlite:///{path}")
    assert again.get("c", "k") == {"v": 1}
    assert again.acquire("me").epoch == 2
    store.close()
    again.close()


def test_a_closed_store_says_so():
    """After `close` every call raises; closing again is fine."""
    store = Store()
    fence = store.acquire("me")
    store.close()
    store.close()
    with pytest.raises(NotReady, match="closed"):
        store.get("c", "k")
    with pytest.raises(NotReady), store.transaction(fence):
        pass


def test_a_folder_that_is_not_there(tmp_path):
    """The message names the file and what to do."""
    with pytest.raises(StorageError, match="create its folder"):
        Store(f"sqlite:///{tmp_path}/none/b.db")


def test_a_file_that_is_no_database(tmp_path):
    """Something else under that name is not touched."""
    path = tmp_path / "b.db"
    path.write_bytes(b"this is a letter, not a database. " * 100)
    with pytest.raises(StorageError, match="no database of Balance"):
        Store(f"sqlite:///{path}")
    assert path.read_bytes().startswith(b"this is a letter")


def test_a_damaged_database(tmp_path):
    """Pages that were overwritten are reported as damage, not as an empty store."""
    path = tmp_path / "b.db"
    store = Store(f"sqlite:///{path}")
    with store.transaction(store.acquire("me")) as tx:
        tx.put_many("c", {f"k{i}": {"v": "x" * 500} for i in range(200)})
    store.close()
    whole = bytearray(path.read_bytes())
    whole[4096:] = b"\xff" * (len(whole) - 4096)
    path.write_bytes(whole)
    with pytest.raises(StorageError, match="damaged"):
        Store(f"sqlite:///{path}").scan("c")


def test_another_process_that_does_not_let_go(tmp_path):
    """A lock that stays is an error that says who to look for, after the time that was given."""
    path = tmp_path / "b.db"
    store = Store(f"sqlite:///{path}", busy_timeout_s=0.01)
    fence = store.acquire("me")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="another process"), store.transaction(fence):
        pass
    other.execute("ROLLBACK")
    other.close()
    with store.transaction(fence) as tx:
        tx.put("c", "k", {})
    store.close()


def test_a_full_disk(tmp_path):
    """What did not fit is not acknowledged, and what was there before still is."""
    store = Store(f"sqlite:///{tmp_path}/b.db")
    fence = store.acquire("me")
    with store.transaction(fence) as tx:
        tx.put("c", "small", {"v": 1})
    with store._engine.connect() as connection:  # a bound on pages is how SQLite plays a full disk
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    with pytest.raises(StorageError, match="free some space"), store.transaction(fence) as tx:
        tx.put("c", "large", {"v": "x" * 100_000})
    assert store.scan("c") == [("small", {"v": 1})]
    store.close()


@pytest.mark.parametrize("url", ["", "nonsense", "oracle://x", "mysql://u@h/d", "no-such-db://x"])
def test_a_url_that_names_no_store(url):
    """The message shows what a URL looks like."""
    with pytest.raises(ConfigurationError, match="sqlite:///PATH"):
        Store(url)


def test_decisions_keep_their_order_and_their_outcome(store):
    """The latest come first, an outcome lands on its own plan, pruning keeps the newest."""
    fence = store.acquire("balancer")
    with store.transaction(fence) as tx:
        numbers = [tx.decisions.append(float(i), f"d{i}", {"n": i}) for i in range(5)]
        tx.decisions.set_outcome(numbers[1], {"good": True})
        with pytest.raises(UnknownId):
            tx.decisions.set_outcome(999, {})
        assert tx.decisions.prune(keep=4) == 1
        assert tx.decisions.prune(keep=10) == 0
    with store.reading() as tx:
        assert [row["plan"]["n"] for row in tx.decisions.latest(10)] == [4, 3, 2, 1]
        assert [row["outcome"] for row in tx.decisions.latest(10)] == [None, None, None, {"good": True}]


def test_samples_are_ordered_and_bounded(store):
    """A range is half open and sorted, a point written twice has its last value, NaN is refused."""
    fence = store.acquire("prediction")
    with store.transaction(fence) as tx:
        tx.samples.append_many([("s", 3.0, 3), ("s", 1.0, 1), ("s", 2.0, 0), ("t", 1.0, 9)])
        tx.samples.append_many([("s", 2.0, 2)])
        assert tx.samples.range("s") == [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]
        assert tx.samples.range("s", 1.0, 3.0) == [(1.0, 1.0), (2.0, 2.0)]
        assert tx.samples.range("s", limit=1) == [(3.0, 3.0)]
        with pytest.raises(InvalidValue):
            tx.samples.append_many([("s", 4.0, float("nan"))])
        assert tx.samples.prune(2.0) == 2
        assert tx.samples.series() == ["s"]


def test_a_journal_is_fenced_too(store):
    """The journal of an owner that was replaced raises instead of writing."""
    journal = StoreJournal(store, store.acquire("sync"))
    journal.put("sync", "a", {"n": 1})
    journal.put("sync", "b", {"n": 2})
    journal.delete("sync", "a")
    store.acquire("sync")
    with pytest.raises(StaleEpoch):
        journal.delete("sync", "b")
    assert journal.scan("sync") == [("b", {"n": 2})]
