"""Changes of level are found where they are, and not where outliers, dependence or wandering only look like one."""

from __future__ import annotations

import numpy as np
import pytest

from balance.timeseries.change_points import dependence, find_changes


def dependent(rng: np.random.Generator, n: int, share: float) -> np.ndarray:
    """Return a first-order process: each value has `share` of the one before."""
    made = rng.normal(size=n)
    for at in range(1, n):
        made[at] += share * made[at - 1]
    return made


def test_each_change_is_found_where_it_is() -> None:
    """Two shifts, up and back, each within a step or two, with the levels on both sides."""
    rng = np.random.default_rng(3)
    values = rng.normal(10.0, 1.0, 240)
    values[100:170] += 4.0
    found = find_changes(values)
    assert [change.index for change in found] == [pytest.approx(100, abs=2), pytest.approx(170, abs=2)]
    assert [round(change.before) for change in found] == [10, 14]
    assert [round(change.after) for change in found] == [14, 10]
    assert all(change.p_value < 1e-6 for change in found)


def test_outliers_are_no_level() -> None:
    """A twentieth of wild values neither hides a change nor makes one."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=200)
    wild = rng.choice(200, 10, replace=False)
    values[wild] = 1e9 * rng.choice([-1, 1], 10)
    assert find_changes(values) == []
    values[120:] += 3.0
    assert [change.index for change in find_changes(values)] == [pytest.approx(120, abs=3)]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.8])
def test_false_changes_are_as_rare_as_they_say(share: float) -> None:
    """Of series without a change at most 5 in 100 have one at 1 %, also where values depend on each other."""
    rng = np.random.default_rng(11)
    assert sum(bool(find_changes(dependent(rng, 150, share))) for _ in range(100)) <= 5


def test_gaps_are_left_out_and_places_stay_right() -> None:
    """The index is that of the series that was passed, gaps included; nothing is said of short or constant ones."""
    values = np.concatenate([np.tile([1.0, 2.0, 3.0], 20), np.tile([21.0, 22.0, 23.0], 20)])
    values[10:40] = np.nan
    assert [change.index for change in find_changes(values)] == [60]
    assert find_changes(values[:15]) == []
    assert find_changes([7.0] * 500) == []
    assert find_changes([np.nan] * 500) == []


def test_dependence_is_not_mistaken_for_levels() -> None:
    """The share of the value before is measured right, with and without changes and outliers."""
    rng = np.random.default_rng(2)
    for share in (0.0, 0.3, 0.6):
        values = dependent(rng, 4000, share)
        values[1000:] += 50.0
        values[rng.choice(4000, 20)] = 1e6
        assert dependence(values) == pytest.approx(share, abs=0.1)
