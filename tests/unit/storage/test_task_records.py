from __future__ import annotations

import pytest

from balance.clock import FakeClock
from balance.errors import Conflict, InvalidValue, UnknownId
from balance.storage import Store


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def tx(clock):
    store = Store(clock=clock)
    with store.transaction(store.acquire("scheduler")) as open_tx:
        yield open_tx
    store.close()


def test_a_task_comes_back_with_everything_that_a_restart_needs(tx, clock):
    """Spec, call and times survive unchanged; what was left out has its default."""
    row = {"task_id": "t", "priority": 2, "tenant": "a", "spec": {"cpu": 1}, "function_hash": "h", "call": b"\x00\xff"}
    tx.tasks.insert([row])
    [found] = tx.tasks.unfinished()
    assert {key: found[key] for key in row} == row
    assert found["state"] == "queued"
    assert found["submitted_at"] == clock.wall()
    assert (found["attempt"], found["outcome"], found["finished_at"]) == (0, None, None)


def test_unfinished_tasks_come_in_the_order_of_submission(tx):
    """First in, first out must hold after a restart, too, so the order is kept even at one moment."""
    tx.tasks.insert([{"task_id": f"t{i}"} for i in (3, 1, 2)])
    tx.tasks.insert([{"task_id": "t0"}])
    assert [row["task_id"] for row in tx.tasks.unfinished()] == ["t3", "t1", "t2", "t0"]


def test_a_duplicate_adds_none_of_the_tasks_beside_it(tx):
    """All or none, also where the caller goes on in the same transaction."""
    tx.tasks.insert([{"task_id": "a"}])
    with pytest.raises(Conflict, match="'a'"):
        tx.tasks.insert([{"task_id": "b"}, {"task_id": "a"}])
    with pytest.raises(Conflict, match="'c'"):
        tx.tasks.insert([{"task_id": "c"}, {"task_id": "c"}])
    assert [row["task_id"] for row in tx.tasks.unfinished()] == ["a"]


def test_changes_of_one_task_apply_in_their_order(tx, clock):
    """Started, requeued and started again in one call ends as started again."""
    tx.tasks.insert([{"task_id": "a"}, {"task_id": "b"}])
    tx.tasks.update(
        [
            {"task_id": "a", "state": "running", "node": "n1", "attempt": 1},
            {"task_id": "b", "state": "completed"},
            {"task_id": "a", "state": "queued"},
            {"task_id": "a", "state": "running", "node": "n2", "attempt": 2},
        ]
    )
    a, b = tx.tasks.get("a"), tx.tasks.get("b")
    assert (a["state"], a["node"], a["attempt"], a["finished_at"]) == ("running", "n2", 2, None)
    assert (b["state"], b["finished_at"]) == ("completed", clock.wall())
    assert tx.tasks.counts_by_state() == {"completed": 1, "running": 1}


def test_a_terminal_state_is_what_makes_a_task_finished(tx, clock):
    """A finish is dated once it happens and taken back if the task goes on."""
    tx.tasks.insert([{"task_id": "a"}])
    tx.tasks.update([{"task_id": "a", "state": "failed"}])
    assert tx.tasks.unfinished() == []
    tx.tasks.update([{"task_id": "a", "state": "queued"}])
    assert [row["task_id"] for row in tx.tasks.unfinished()] == ["a"]


def test_a_change_of_an_unknown_task_changes_nothing(tx):
    """The nearest known id is named, and the known ones beside it are as they were."""
    tx.tasks.insert([{"task_id": "train-1"}])
    with pytest.raises(UnknownId, match="did you mean 'train-1'"):
        tx.tasks.update([{"task_id": "train-1", "state": "running"}, {"task_id": "train-2", "state": "running"}])
    assert tx.tasks.get("train-1")["state"] == "queued"


@pytest.mark.parametrize("row", [{}, {"task_id": ""}, {"task_id": "t", "priority": 0}, {"task_id": "t", "colour": 1}])
def test_a_row_that_is_none_is_refused(tx, row):
    """Ids, priorities and columns are checked before anything is written."""
    with pytest.raises(InvalidValue):
        tx.tasks.insert([row])


def test_functions_are_kept_once_and_forgotten_with_their_tasks(tx, clock):
    """The same hash twice is one blob; pruning keeps what an unforgotten task still calls."""
    tx.tasks.put_functions({"h1": b"one", "h2": b"two"})
    tx.tasks.put_functions({"h1": b"one"})
    tx.tasks.insert([{"task_id": "a", "function_hash": "h1"}, {"task_id": "b", "function_hash": "h2"}])
    tx.tasks.update([{"task_id": "a", "state": "completed"}, {"task_id": "b", "state": "completed"}])
    assert tx.tasks.functions(["h1", "nope"]) == {"h1": b"one"}
    assert tx.tasks.prune(clock.wall()) == 0
    tx.tasks.update([{"task_id": "b", "finished_at": clock.wall() - 10}])
    assert tx.tasks.prune(clock.wall()) == 1
    assert tx.tasks.functions() == {"h1": b"one"}


def test_the_newest_finished_come_first_and_light(tx, clock):
    """The history for people carries no blobs."""
    tx.tasks.insert([{"task_id": "a", "call": b"x"}, {"task_id": "b", "call": b"x"}])
    tx.tasks.update([{"task_id": "a", "state": "completed"}])
    clock.advance(1)
    tx.tasks.update([{"task_id": "b", "state": "failed", "outcome": {"error": "boom"}}])
    rows = tx.tasks.finished(10)
    assert [row["task_id"] for row in rows] == ["b", "a"]
    assert "call" not in rows[0]
    assert [row["task_id"] for row in tx.tasks.finished(1)] == ["b"]
