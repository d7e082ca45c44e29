"""Merging and splitting: what holds for any requests."""

from __future__ import annotations

import copy

from hypothesis import given
from hypothesis import strategies as st

from balance.batch.processor import BatchProcessor, BatchSplitter, Limits, RequestMerger, content_key
from balance.batch.processor.text import normalise

values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
contents = st.dictionaries(st.sampled_from(["q", "query", "limit", "url", "data_id"]), values, max_size=3)
lists = st.lists(st.tuples(st.sampled_from(["a", "b"]), contents, st.integers(1, 5)), max_size=12).map(
    lambda rows: [
        {"request_id": str(n), "model_id": model, "priority": priority, **content}
        for n, (model, content, priority) in enumerate(rows)
    ]
)


@given(st.text())
def test_normalising_twice_changes_nothing(text):
    """One spelling is one: it is its own."""
    once = normalise(text)
    assert normalise(once) == once


@given(st.text(st.characters(min_codepoint=0x600, max_codepoint=0x6FF) | st.sampled_from(" \u200c\t")))
def test_normalising_persian_and_arabic_twice_changes_nothing(text):
    """The same for every letter of the Arabic block."""
    once = normalise(text)
    assert normalise(once) == once


@given(contents, st.dictionaries(st.sampled_from(["request_id", "timestamp", "trace_id", "priority"]), values))
def test_identity_never_counts(content, identity):
    """Fields that say who asks and when never keep two requests apart."""
    assert content_key({**content, **identity}) == content_key(dict(reversed(list(content.items()))))


@given(lists)
def test_merging_counts_everyone_once(requests):
    """Every request is in exactly one merged request, in order, and the input stays as it was."""
    before = copy.deepcopy(requests)
    merged = RequestMerger().merge_requests(requests)
    assert requests == before
    assert sum(one["count"] for one in merged) == len(requests)
    assert sorted(i for one in merged for i in one["request_ids"]) == sorted(r["request_id"] for r in requests)
    firsts = [int(one["request_ids"][0]) for one in merged]
    assert firsts == sorted(firsts)
    for one in merged:
        assert one["priority"] == min(requests[int(i)]["priority"] for i in one["request_ids"])


@given(
    st.lists(st.tuples(st.integers(0, 30), st.floats(0, 3)), max_size=30),
    st.integers(1, 6),
    st.integers(1, 40),
    st.floats(0, 5),
)
def test_splitting_loses_and_reorders_nothing(rows, max_items, max_bytes, max_cost):
    """The batches put together are the input; each is within the limits or a single request."""
    requests = [{"n": n, "size_bytes": size, "cost": cost} for n, (size, cost) in enumerate(rows)]
    limits = Limits(max_items, max_bytes, max_cost)
    batches = BatchSplitter(limits=limits).split_large_batches(requests)
    assert [request for batch in batches for request in batch] == requests
    for batch in batches:
        assert batch
        total = sum(request["size_bytes"] for request in batch)
        cost = sum(request["cost"] for request in batch)
        assert len(batch) == 1 or (len(batch) <= max_items and total <= max_bytes and cost <= max_cost + 1e-9)


@given(lists, st.integers(1, 4), st.sets(st.integers(0, 11)))
def test_everyone_gets_the_answer_to_their_own_content(requests, max_items, poison):
    """Whatever is merged, split or poisoned: an answer belongs to its request, and only the poisoned fail."""
    keys = {content_key(requests[n]) for n in poison if n < len(requests)}

    def runner(batch):
        found = [content_key(one) for one in batch.requests]
        if keys & set(found):
            raise ValueError("poison")
        return found

    processor = BatchProcessor(runner=runner, splitter=BatchSplitter(limits=Limits(max_items=max_items)))
    report = processor.process_batch(requests)
    assert [answer["request_id"] for answer in report["results"]] == [r["request_id"] for r in requests]
    for request, answer in zip(requests, report["results"], strict=True):
        key = content_key(request)
        assert answer["status"] == ("failed" if key in keys else "completed")
        assert answer["result"] == (None if key in keys else key)
