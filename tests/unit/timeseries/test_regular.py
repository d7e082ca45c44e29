"""Readings at any moments become equal steps, and what was wrong with them is counted."""

from __future__ import annotations

import numpy as np
import pytest

from balance.errors import InvalidValue
from balance.timeseries.regular import regular
from balance.timeseries.series import LONGEST


def test_jitter_does_not_shift_readings() -> None:
    """Clocks that are off by a third of a step leave each reading in a step of its own."""
    at = np.arange(200) * 60.0
    jitter = np.random.default_rng(0).uniform(-18, 18, 200)
    made = regular(np.arange(200.0), list(at + jitter), 60.0)
    assert (made.gaps, made.duplicates) == (0, 0)
    assert made.values.tolist() == list(range(200))


def test_gaps_are_steps_without_a_value() -> None:
    """A missing hour is as many NaN as it has steps."""
    at = [60.0 * step for step in range(200) if not 50 <= step < 110]
    made = regular(np.ones(len(at)), at)
    assert made.gaps == np.isnan(made.values).sum() == 60
    assert len(made.values) == 200


def test_a_gap_of_years_costs_nothing() -> None:
    """What lies more than 4032 steps before the newest reading is left out, and the array stays small."""
    made = regular([1.0, 2.0, 3.0, 4.0], [0.0, 1e12, 1e12 + 1, 1e12 + 2])
    assert made.values.tolist() == [2.0, 3.0, 4.0]
    assert len(regular(np.ones(9000), range(9000)).values) == LONGEST


def test_all_at_one_moment_is_one_step() -> None:
    """Readings of one moment are averaged, and the mean of two huge ones is not infinite."""
    made = regular([1e308, 1e308, float("nan")], [5.0, 5.0, 5.0])
    assert made.values.tolist() == [1e308]
    assert made.duplicates == 2


def test_nothing_is_nothing() -> None:
    """No reading at all is an empty series with the step that was asked for."""
    made = regular([], [], 5.0)
    assert (len(made.values), made.step_s) == (0, 5.0)


@pytest.mark.parametrize(("values", "timestamps"), [([1.0], [1.0, 2.0]), ([1.0], ["soon"]), ([[1.0]], [1.0])])
def test_what_does_not_fit_together_is_named(values: list[float], timestamps: list[object]) -> None:
    """As many moments as values, each a moment."""
    with pytest.raises(InvalidValue):
        regular(values, timestamps)
