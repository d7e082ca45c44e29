"""Whatever was forecast and whatever came: finite figures, a known status, and verdicts that hold together."""

from __future__ import annotations

import json
import warnings
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from balance.prediction.optimization import AccuracyMonitor, ModelOptimizer

ANY = st.one_of(
    st.none(), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, 1e100, -1e100, 5e-324])
)
CALLS = st.lists(st.tuples(st.lists(ANY, max_size=12), st.lists(ANY, max_size=12), st.integers(0, 5)), max_size=8)


@settings(max_examples=120, deadline=None)
@example([([0.0, 1e-307, 0.0], [0.0] * 3, 0), ([0.0], [6659.0], 0)], False)
@given(CALLS, st.booleans())
def test_figures_are_finite_and_verdicts_consistent(calls: list[Any], dated: bool) -> None:
    """No NaN, no warning, no library's error; what is used is never demoted, and its weights sum to 1."""
    monitor, optimizer = AccuracyMonitor(window=16), ModelOptimizer(min_evidence=5)
    for number, (values, point, season) in enumerate(calls):
        actual: dict[str, Any] = {"values": values, "season": season}
        predicted: dict[str, Any] = {"point": point, "methods": {"other": point[::-1]}}
        predicted["quantiles"] = {"0.1": point, "0.9": point[::-1]} if number % 2 else {}
        if dated:
            actual["timestamps"] = [10.0 * (at * 7 % 11) for at in range(len(values))]
            predicted["timestamps"] = [10.0 * at for at in range(len(point))]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made = monitor.monitor_accuracy("m", actual, predicted)
            verdict = optimizer.optimize_model("m", made)
        json.dumps([made, verdict], allow_nan=False)
        assert made["status"] in {"ok", "insufficient_data", "nothing_to_score"}
        assert 0 <= made["scored"] <= len(values)
        assert made["scored"] + made["skipped"] == len(values)
        assert abs(sum(verdict["weights"].values()) - 1) < 1e-9
        assert not set(verdict["weights"]) & set(verdict["demoted"])
