"""A season is found where there is one, and not in noise."""

from __future__ import annotations

import numpy as np

from balance.timeseries.season import find_seasons


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_days_and_weeks_are_both_found() -> None:
    """A daily pattern whose days differ by weekday has two seasons."""
    hours = np.arange(24 * 7 * 5)
    weekend = np.where((hours // 24) % 7 >= 5, 0.4, 1.0)
    values = np.log1p(
        1000 * weekend * (1.5 + np.sin(2 * np.pi * hours / 24)) * np.exp(rng().normal(0, 0.05, len(hours)))
    )
    assert find_seasons(values) == (24, 168)


def test_a_slow_season_is_found_through_noise() -> None:
    """A season whose steps are smaller than the noise between two values shows in block sums."""
    steps = np.arange(360)
    values = np.log1p(rng(3).poisson(40 + 30 * np.sin(2 * np.pi * steps / 60)).astype(float))
    found = find_seasons(values)
    assert found
    assert abs(found[0] - 60) <= 2


def test_walks_noise_and_constants_have_no_season() -> None:
    """What does not repeat is not said to repeat, in at least 97 of 100 draws."""
    false = sum(
        bool(find_seasons(values))
        for seed in range(50)
        for values in (rng(seed).normal(size=300), np.cumsum(rng(seed).normal(size=300)))
    )
    assert false <= 3
    for values in (np.zeros(0), np.ones(1), np.ones(500), np.arange(500.0)):
        assert find_seasons(values) == ()


def test_one_spike_is_no_season() -> None:
    """A flash crowd does not look like a pattern."""
    values = np.ones(300) + rng().normal(0, 0.01, 300)
    values[[100, 137]] += 50
    assert find_seasons(values) == ()


def test_the_length_is_exact_where_noise_bends_the_peak() -> None:
    """Two weeks of noisy ten-minute counts have a season of a day, not of a lag nearby."""
    steps = np.arange(144 * 13)
    for seed in range(6):
        values = rng(seed).poisson(300 + 100 * np.sin(2 * np.pi * steps / 144)).astype(float)
        assert find_seasons(values)[0] == 144
    for day in (7, 24, 60):
        assert find_seasons(100.0 + 50.0 * ((np.arange(day * 21) % day) > day // 3))[0] == day
