"""A series comes apart into what it was made of, and always adds up again."""

from __future__ import annotations

import numpy as np
import pytest

from balance.timeseries.decomposition import decompose
from balance.timeseries.trend import find_trend

RNG = np.random.default_rng(4)
HOURS = np.arange(24 * 21)
DAY, WEEK = np.sin(2 * np.pi * HOURS / 24), np.sin(2 * np.pi * HOURS / 168)


def test_one_season_and_a_spike() -> None:
    """The season is recovered, and a spike stays in the remainder."""
    values = 100 + 0.1 * HOURS + 20 * DAY + RNG.normal(size=len(HOURS))
    values[200] += 500
    parts = decompose(values, [24])
    assert parts.method == "stl"
    assert np.abs(parts.seasonal[24] - 20 * DAY).mean() < 1.5
    assert parts.remainder[200] > 450
    assert parts.strength(24) > 0.95
    assert parts.trend + parts.seasonal[24] + parts.remainder == pytest.approx(values)


def test_two_seasons() -> None:
    """A day and a week are told apart."""
    parts = decompose(50 + 20 * DAY + 10 * WEEK + RNG.normal(size=len(HOURS)), [168, 24])
    assert parts.method == "mstl"
    assert parts.seasons == (24, 168)
    assert np.abs(parts.seasonal[24] - 20 * DAY).mean() < 2
    assert np.abs(parts.seasonal[168] - 10 * WEEK).mean() < 2


def test_too_short_for_the_season() -> None:
    """What does not fit in twice is left out and noted; the trend is then a running median."""
    parts = decompose(np.arange(30.0), [24])
    assert (parts.method, parts.seasons) == ("running_median", ())
    assert parts.notes
    assert np.abs(parts.remainder).max() < 3
    for few in ([], [1.0], [1.0, 2.0], [np.nan, np.inf]):
        made = decompose(few, [2])
        assert len(made.trend) == len(made.remainder) <= 2


def test_a_trend_is_told_from_wandering() -> None:
    """A slope comes back with its interval; noise that depends on itself has none; a fall is no rise."""
    noise = RNG.normal(size=300)
    found = find_trend(0.05 * np.arange(300) + noise)
    assert found is not None
    assert found.slope_low < 0.05 < found.slope_high
    assert found.p_value < 1e-6
    falling = find_trend(-0.05 * np.arange(300) + noise)
    assert falling is not None
    assert falling.tau < 0 > falling.slope
    false = 0
    for _ in range(60):
        wandering = RNG.normal(size=120)
        for at in range(1, 120):
            wandering[at] += 0.7 * wandering[at - 1]
        one = find_trend(wandering)
        assert one is not None
        false += one.p_value < 0.05
    assert false <= 8  # the plain test calls every third of these a trend


def test_a_clear_rise_with_smooth_ripples_is_a_trend() -> None:
    """Ripples about a line depend on each other wholly; the rise is far beyond what they could add up to."""
    found = find_trend(np.arange(200.0) + np.sin(np.arange(200) / 20))
    assert found is not None
    assert found.p_value < 0.001
