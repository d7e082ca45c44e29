"""Splitting: within the limits, in order, nothing lost."""

from __future__ import annotations

import pytest

from balance.batch.processor import BatchSplitter, Limits
from balance.errors import InvalidValue


def sizes(batches):
    return [[request["size_bytes"] for request in batch] for batch in batches]


@pytest.mark.parametrize(
    ("limits", "given", "want"),
    [
        (Limits(max_items=2), [1, 1, 1], [[1, 1], [1]]),
        (Limits(max_bytes=10), [4, 6, 1], [[4, 6], [1]]),
        (Limits(max_bytes=10), [4, 99, 1, 2], [[4], [99], [1, 2]]),
        (Limits(max_bytes=10), [99], [[99]]),
        (Limits(), [], []),
    ],
)
def test_limits_hold(limits, given, want):
    """A batch stays within the limits, and what is too large alone gets a batch of its own."""
    batches = BatchSplitter(limits=limits).split_large_batches([{"size_bytes": size} for size in given])
    assert sizes(batches) == want


def test_cost_limits_a_batch():
    """Costs add up to at most the limit."""
    splitter = BatchSplitter(limits=Limits(max_cost=1.0))
    batches = splitter.split_large_batches([{"cost": 0.4}, {"cost": 0.6}, {"cost": 0.1}])
    assert [len(batch) for batch in batches] == [2, 1]


def test_bare_splitter_works_and_hands_back_the_same_objects():
    """Without arguments it splits by its documented limits; requests are not copied."""
    requests = [{"n": n} for n in range(130)]
    batches = BatchSplitter().split_large_batches(requests)
    assert [len(batch) for batch in batches] == [64, 64, 2]
    assert batches[0][0] is requests[0]


@pytest.mark.parametrize("wrong", [[{"size_bytes": -1}], [{"cost": float("nan")}], [3], {}])
def test_wrong_input_is_named(wrong):
    """A size that can't be one is the caller's mistake."""
    with pytest.raises(InvalidValue):
        BatchSplitter().split_large_batches(wrong)


def test_limits_must_let_something_through():
    """A limit of no items would lose every request."""
    with pytest.raises(InvalidValue):
        Limits(max_items=0)
