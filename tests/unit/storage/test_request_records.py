from __future__ import annotations

import sqlite3

import pytest

from balance.clock import FakeClock
from balance.errors import InvalidValue, UnknownId
from balance.storage import Store


def rows(*ids, **more):
    return [{"request_id": request_id, "model_id": "m", **more} for request_id in ids]


def ends(*ids, state="completed", **more):
    return [{"request_id": request_id, "state": state, **more} for request_id in ids]


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def tx(store_url, clock):
    store = Store(store_url, clock=clock)
    with store.transaction(store.acquire("batches")) as open_tx:
        yield open_tx
    store.close()


def test_a_request_is_accepted_once(tx):
    """A redelivered id is not new, in one call or in two, and keeps what it first said."""
    assert tx.requests.accept(rows("b", "a", "b", payload={"n": 1})) == ["b", "a"]
    assert tx.requests.accept(rows("a", "c", payload={"n": 2})) == ["c"]
    assert tx.requests.get("a")["payload"] == {"n": 1}
    assert [row["request_id"] for row in tx.requests.unfinished()] == ["b", "a", "c"]
    assert tx.requests.conservation()["accepted"] == 3


def test_the_first_outcome_stays(tx):
    """A second answer to the same request is not written and not counted."""
    tx.requests.accept(rows("a", "b"))
    assert tx.requests.finish(ends("a", outcome={"v": 1})) == ["a"]
    assert tx.requests.finish(ends("a", "b", state="failed", outcome={"v": 2})) == ["b"]
    assert tx.requests.get("a")["outcome"] == {"v": 1}
    account = tx.requests.conservation()
    expected = {"accepted": 2, "completed": 1, "failed": 1, "dead_lettered": 0, "in_flight": 0, "holds": True}
    assert account == expected


def test_an_outcome_for_a_request_that_was_never_accepted(tx):
    """It raises, and finishes none of those beside it."""
    tx.requests.accept(rows("alpha"))
    with pytest.raises(UnknownId, match="did you mean 'alpha'"):
        tx.requests.finish(ends("alpha", "alpah"))
    assert tx.requests.get("alpha")["state"] == "accepted"


@pytest.mark.parametrize("end", [{"state": "accepted"}, {"state": "done"}, {}, {"state": "failed", "oops": 1}])
def test_an_outcome_that_is_none(tx, end):
    """Only the three ways to end are ways to end."""
    tx.requests.accept(rows("a"))
    with pytest.raises(InvalidValue):
        tx.requests.finish([{"request_id": "a", **end}])


def test_merged_requests_share_what_ran_for_them(tx, clock):
    """Each is answered; only one was executed."""
    tx.requests.accept(rows("a", "b", "c"))
    tx.requests.assign(["a", "b", "c"], "task-1")
    clock.advance(2.0)
    tx.requests.finish(ends("a", "b", executed_as="a"))
    counts = tx.requests.counts_by_model()["m"]
    assert counts == {
        "accepted": 3, "completed": 2, "failed": 0, "dead_lettered": 0, "in_flight": 1, "executed": 1,
    }  # fmt: skip
    assert tx.requests.get("c")["task_id"] == "task-1"
    assert [row["latency_s"] for row in tx.requests.latencies()] == [2.0, 2.0]
    assert tx.requests.latencies(model_id="other") == []
    assert tx.requests.latencies(since=clock.wall() + 1) == []
    assert [row["request_id"] for row in tx.requests.latencies(limit=1)] == ["b"]


def test_what_was_pruned_still_counts(tx, clock):
    """Forgetting old rows neither hides them from the account nor breaks the law."""
    tx.requests.accept(rows("a", "b", "c"))
    tx.requests.finish(ends("a") + ends("b", state="dead_lettered"))
    assert tx.requests.prune(clock.wall() + 1) == 2
    assert tx.requests.get("a") is None
    expected = {"accepted": 3, "completed": 1, "failed": 0, "dead_lettered": 1, "in_flight": 1, "holds": True}
    assert tx.requests.conservation() == expected


@pytest.mark.parametrize(
    "defect",
    [
        "DELETE FROM requests WHERE request_id = 'in-flight'",
        "DELETE FROM requests WHERE request_id = 'done'",
        "UPDATE requests SET state = 'accepted', finished_at = NULL WHERE request_id = 'done'",
        "UPDATE requests SET state = 'failed' WHERE request_id = 'done'",
        "UPDATE counters SET value = value + 1 WHERE name = 'requests.completed'",
        "INSERT INTO requests (request_id, model_id, priority, state, accepted_at) VALUES ('x', 'm', 1, 'accepted', 0)",
    ],
)
def test_the_law_can_be_broken(tmp_path, defect):
    """Planted: a row lost, revived, changed, finished twice or smuggled in is found every time."""
    path = tmp_path / "b.db"
    store = Store(f"sqlite:///{path}")
    with store.transaction(store.acquire("batches")) as tx:
        tx.requests.accept(rows("done", "in-flight"))
        tx.requests.finish(ends("done"))
    assert store.conservation()["holds"] is True
    raw = sqlite3.connect(path)
    raw.execute(defect)
    raw.commit()
    raw.close()
    assert store.conservation()["holds"] is False
    store.close()
