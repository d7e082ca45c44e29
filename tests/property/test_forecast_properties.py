"""Whatever comes in, a forecast is finite, ordered, non-negative for counts, and never an exception."""

from __future__ import annotations

import warnings

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from balance.clock import FakeClock
from balance.timeseries import LIGHT_METHODS, CombinedForecaster
from balance.timeseries.catalogue import HEAVY_METHODS
from balance.timeseries.methods import Method, Problem, run

ANY_FLOAT = st.floats(allow_nan=True, allow_infinity=True, width=64)
COUNTS = st.integers(min_value=0, max_value=10**9).map(float)
SERIES = st.one_of(
    st.lists(ANY_FLOAT, max_size=120),
    st.lists(COUNTS, max_size=120),
    st.lists(st.sampled_from([0.0, 1.0, float("nan")]), max_size=120),
    st.builds(lambda shape, times: shape * times, st.lists(COUNTS, min_size=1, max_size=12), st.integers(1, 12)),
)


@settings(max_examples=120, deadline=None)
@given(SERIES, st.integers(1, 60), st.sampled_from([None, 0, 7, (4, 28), 500]))
def test_never_nan_never_crossing_never_raising(
    values: list[float], horizon: int, season: int | tuple[int, ...] | None
) -> None:
    """Every number is finite, quantiles are ordered, and no warning or library error gets out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = CombinedForecaster(clock=FakeClock(), methods=LIGHT_METHODS).forecast(
            values, horizon, season, (0.05, 0.1, 0.5, 0.9, 0.99)
        )
    rows = np.stack([made.quantiles[level] for level in sorted(made.quantiles)])
    assert made.status in {"ok", "insufficient_data"}
    assert made.point.shape == (horizon,)
    assert np.isfinite(made.point).all()
    assert np.isfinite(rows).all()
    assert (np.diff(rows, axis=0) >= 0).all()
    assert np.array_equal(made.quantiles[0.5], made.point)
    known = [value for value in values if np.isfinite(value) and abs(value) <= 1e100]
    if known and min(known) >= 0:
        assert rows.min() >= 0
    assert abs(sum(made.weights.values()) - 1) < 1e-9


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([method for method in HEAVY_METHODS if method.name != "unobserved_components"]),
    st.lists(COUNTS, min_size=8, max_size=60),
    st.integers(1, 10),
    st.sampled_from([(), (7,), (7, 21)]),
)
def test_the_fits_of_statsmodels_keep_the_same_promise(
    method: Method, values: list[float], horizon: int, seasons: tuple[int, ...]
) -> None:
    """Each fit is finite numbers or a reason, and no warning gets out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = run(method, Problem(np.log1p(values), horizon, seasons, True))
    assert (fit.values is None) == bool(fit.reason)
    assert fit.values is None or np.isfinite(fit.values).all()
