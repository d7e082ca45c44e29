from __future__ import annotations

import pytest

from balance.clock import FakeClock
from balance.errors import Conflict, InvalidValue, StorageError
from balance.storage import Store


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def tx(store_url, clock):
    store = Store(store_url, clock=clock)
    with store.transaction(store.acquire("scheduler")) as open_tx:
        yield open_tx
    store.close()


def new(seq, task_id=None, function=None, call=None):
    return (seq, task_id or f"t{seq}", '{"name":"fit"}', 10.0, function, call)


def submit(tx, *seqs, **more):
    tx.tasks.add([new(seq, **more) for seq in seqs])
    tx.tasks.set_open([(seq, "queued", 10.0, None) for seq in seqs])


def over(seq, state="completed", finished_at=12.0, value=None, output=None):
    return (seq, state, 1, 10.0, 11.0, finished_at, "n1", 0.5, None, output, value)


def test_a_task_comes_back_with_everything_that_a_restart_needs(tx):
    """Spec, call, times and progress are as they were handed in."""
    tx.tasks.add([(7, "t", '{"name":"fit"}', 10.0, "h", b"\x00\xff")])
    tx.tasks.set_open([(7, "retrying", None, '{"errors":1}')])
    [found] = tx.tasks.unfinished()
    assert found == (7, "t", '{"name":"fit"}', 10.0, "h", b"\x00\xff", "retrying", None, '{"errors":1}')
    assert tx.tasks.get("t") == found
    assert tx.tasks.get("other") is None
    assert tx.tasks.calls(["t", "other"]) == {"t": ("h", b"\x00\xff")}


def test_unfinished_tasks_come_in_the_order_of_submission(tx):
    """First in, first out must hold after a restart, too: the number decides, not the order of writing."""
    submit(tx, 3, 1)
    submit(tx, 2)
    assert [row.seq for row in tx.tasks.unfinished()] == [1, 2, 3]
    assert tx.tasks.latest().seq == 3


def test_a_duplicate_adds_none_of_the_tasks_beside_it(tx):
    """All or none, also where the caller goes on in the same transaction; the id is named."""
    submit(tx, 1, task_id="a")
    with pytest.raises(Conflict, match="'a'"):
        tx.tasks.add([new(2, "b"), new(3, "a")])
    with pytest.raises(Conflict, match="'c'"):
        tx.tasks.add([new(4, "c"), new(5, "c")])
    with pytest.raises(Conflict, match="numbers"):
        tx.tasks.add([new(6, "d"), new(1, "e")])
    assert [row.task_id for row in tx.tasks.unfinished()] == ["a"]
    assert tx.tasks.calls(["b", "c", "d", "e"]) == {}


def test_a_task_that_is_added_again_stays_as_it_is(tx):
    """A write that is made up for may have reached the disk in part."""
    submit(tx, 1)
    tx.tasks.add([new(1), new(2)])
    tx.tasks.set_open([(2, "queued", 10.0, None)])
    assert [row.seq for row in tx.tasks.unfinished()] == [1, 2]


def test_the_last_place_of_a_task_counts(tx):
    """A task that goes on waiting for another reason is noted anew."""
    submit(tx, 1)
    tx.tasks.set_open([(1, "retrying", 10.0, '{"errors":1}')])
    assert tx.tasks.get("t1").state == "retrying"
    assert tx.tasks.counts_by_state() == {"retrying": 1}


def test_the_first_end_of_a_task_stays(tx):
    """What has ended is not open any more, and a second end changes nothing."""
    submit(tx, 1, 2)
    tx.tasks.end([over(1, value=b"x", output="printed")])
    tx.tasks.end([over(1, state="failed", value=b"y")])
    assert [row.seq for row in tx.tasks.unfinished()] == [2]
    found = tx.tasks.get("t1")
    assert (found.state, found.attempt, found.started_at, found.finished_at, found.node) == (
        "completed", 1, 11.0, 12.0, "n1",
    )  # fmt: skip
    assert tx.tasks.results(["t1", "t2", "t3"]) == {"t1": (b"x", "printed")}
    assert (tx.tasks.result("t1"), tx.tasks.result("t2")) == (b"x", None)
    assert tx.tasks.counts_by_state() == {"completed": 1, "queued": 1}


@pytest.mark.parametrize("count", [0, 1, 2, 1023, 1024, 1025, 3000])
def test_many_rows_in_few_statements(tx, count):
    """However many there are, each is written once and in its order."""
    submit(tx, *range(1, count + 1))
    assert [row.seq for row in tx.tasks.unfinished()] == list(range(1, count + 1))
    tx.tasks.end([over(seq) for seq in range(1, count + 1, 2)])
    assert [row.seq for row in tx.tasks.unfinished()] == list(range(2, count + 1, 2))


def test_a_row_that_is_refused_keeps_no_other_from_the_disk(tx):
    """Apart, all rows are written but those at fault, which are named with the reason."""
    rows = [new(seq) for seq in range(1, 50)]
    rows[20] = new(21, "lone \udce9 surrogate")
    rows[33] = new(34, "t5")
    refused = tx.write_apart(tx.tasks.add, rows)
    assert [(row[0], type(error)) for row, error in refused] == [(21, InvalidValue), (34, Conflict)]
    assert len(tx.tasks.calls(f"t{seq}" for seq in range(1, 50))) == 47


def test_bulk_writes_need_a_transaction_that_writes():
    """A reading transaction refuses them as it refuses any."""
    store = Store()
    with store.reading() as tx, pytest.raises(StorageError, match="only reads"):
        tx.tasks.add([new(1)])
    store.close()


def test_functions_are_kept_once(tx):
    """The same hash twice is one blob, and they outlive the tasks: others may call them by their hash."""
    tx.tasks.put_functions({"h1": b"one", "h2": b"two"})
    tx.tasks.put_functions({"h1": b"one"})
    submit(tx, 1, function="h1")
    tx.tasks.end([over(1)])
    tx.tasks.prune(100.0)
    assert tx.tasks.functions() == {"h1": b"one", "h2": b"two"}
    assert tx.tasks.functions(["h1", "nope"]) == {"h1": b"one"}


def test_old_tasks_are_forgotten_the_oldest_first(tx):
    """With all that belongs to them, so many at a time; what is not over is never old."""
    submit(tx, 1, 2, 3, 4)
    tx.tasks.end([over(1, finished_at=12.0), over(2, finished_at=11.0, value=b"x"), over(3, finished_at=20.0)])
    assert tx.tasks.prune(20.0, limit=1) == 1
    assert tx.tasks.get("t2") is None
    assert tx.tasks.result("t2") is None
    assert tx.tasks.prune(20.0, limit=5) == 1
    assert tx.tasks.prune(20.0) == 0
    assert [row.task_id for row in tx.tasks.find(["t1", "t2", "t3", "t4"])] == ["t3", "t4"]
    submit(tx, 5, task_id="t2")


def test_the_newest_finished_come_first_and_light(tx):
    """The history for people carries neither calls nor results."""
    submit(tx, 1, call=b"x")
    submit(tx, 2, call=b"x")
    tx.tasks.end([over(2, value=b"y"), over(1, state="failed", finished_at=13.0)])
    rows = tx.tasks.finished(10)
    assert [row.task_id for row in rows] == ["t1", "t2"]
    assert not {"call", "value"} & set(rows[0]._fields)
    assert [row.task_id for row in tx.tasks.finished(1)] == ["t1"]


def test_a_large_result_lies_beside_its_task(tmp_path):
    """Megabytes come back as they were, and go with the task."""
    store = Store(f"sqlite:///{tmp_path}/b.db")
    fence = store.acquire("scheduler")
    large = bytes(range(256)) * 2**14
    with store.transaction(fence) as tx:
        submit(tx, 1)
        tx.tasks.end([over(1, value=large)])
    with store.transaction(fence) as tx:
        assert tx.tasks.result("t1") == large
        assert tx.tasks.prune(100.0) == 1
        assert tx.tasks.result("t1") is None
    store.close()
