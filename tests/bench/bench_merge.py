"""How fast requests are merged.  Run: ``pytest tests/bench/bench_merge.py --benchmark-only``."""

from __future__ import annotations

import pytest

from balance.batch.processor import BatchProcessor, RequestMerger

SHAPES = {
    "ascii": [{"request_id": str(n), "model_id": "m", "query": f"Query {n % 500}", "limit": 5} for n in range(5000)],
    "persian": [
        {"request_id": str(n), "model_id": "m", "query": f"كتاب شماره {n % 500}", "limit": 5} for n in range(5000)
    ],
    "all_distinct_persian": [
        {"request_id": str(n), "model_id": "m", "query": f"كتاب‌هاي {n}", "limit": 5} for n in range(5000)
    ],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_merge_5000_requests(benchmark, shape):
    """A merge of 5,000 small requests; the aim is 50,000 requests a second."""
    merged = benchmark(RequestMerger().merge_requests, SHAPES[shape])
    assert sum(one["count"] for one in merged) == 5000


def test_plan_5000_requests(benchmark):
    """Merging, ordering and splitting of 5,000 small requests."""
    batches = benchmark(BatchProcessor().plan, SHAPES["ascii"])
    assert sum(batch.count for batch in batches) == 5000
