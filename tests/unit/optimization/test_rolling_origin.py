"""Methods are compared on values that they have not seen, and every series has an answer."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balance.clock import FakeClock
from balance.errors import InvalidValue
from balance.prediction.optimization.rolling_origin import COMBINATION, origins_of, rolling_origin
from balance.timeseries import LIGHT_METHODS
from balance.timeseries.methods import NAIVE, Method
from balance.timeseries.profiles import SEASONAL_NAIVE

DAYS = 100 + 20 * np.sin(np.arange(24 * 10) * np.pi / 12)


def test_figures_are_those_of_the_truth_after_each_origin() -> None:
    """The last value repeated on a straight line is off by 1, 2, 3 ...: the figures follow by hand."""
    found = {one.method: one for one in rolling_origin(np.arange(100.0, 140.0), 4, 0, origins=2, methods=(NAIVE,))}
    naive = found["naive"]
    assert (naive.status, naive.origins, naive.mase) == ("ok", 2, pytest.approx(2.5))
    errors = [200 * step / (2 * last + step) for last in (135, 131) for step in (1, 2, 3, 4)]
    assert naive.smape == pytest.approx(np.mean(errors))
    assert found[COMBINATION].mase == pytest.approx(2.5)


def test_no_method_sees_what_comes_after_its_origin() -> None:
    """What a method is given ends before what it is compared with begins."""
    seen: list[int] = []

    def peek(problem):
        seen.append(len(problem.values))
        return np.full(problem.horizon, problem.values[-1])

    rolling_origin(DAYS, 24, 24, origins=3, methods=(Method("peek", peek),), clock=FakeClock())
    assert max(seen) == len(DAYS) - 24
    assert origins_of(len(DAYS), 24, 3) == ([216, 192, 168], 24)


def test_gaps_are_not_compared() -> None:
    """A step without a value has no error; filled-in values do not count as truth."""
    values = DAYS.copy()
    values[-20:] = np.nan
    found = {one.method: one for one in rolling_origin(values, 24, 24, origins=1, methods=(SEASONAL_NAIVE,))}
    assert found["seasonal_naive"].smape == pytest.approx(0.0, abs=1e-9)


def test_what_does_not_apply_says_so() -> None:
    """Too short a series and a method without a season have a status; a bad count raises."""
    assert {one.status for one in rolling_origin([1.0] * 9, 5)} == {"insufficient_data"}
    found = {one.method: one.status for one in rolling_origin([5.0] * 60, 5, 0, methods=(NAIVE, SEASONAL_NAIVE))}
    assert found == {COMBINATION: "ok", "naive": "ok", "seasonal_naive": "not_applicable"}
    for bad in (0, -1, 2.5):
        with pytest.raises(InvalidValue):
            rolling_origin([1.0] * 60, 5, origins=bad)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.0, 1e100])), max_size=60),
    st.integers(1, 80),
)
def test_any_series_has_finite_figures(values: list[float], horizon: int) -> None:
    """Whatever the values and the horizon: finite JSON, and no warning gets out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = rolling_origin(values, horizon, origins=2, budget_s=0.0, methods=LIGHT_METHODS, clock=FakeClock())
    for one in found:
        json.dumps(one.to_dict(), allow_nan=False)
        assert one.status in {"ok", "not_applicable", "insufficient_data"}
        assert one.coverage is None or 0 <= one.coverage <= 1
