"""Each method does what it is named for, says where it does not apply, and goes on from what it learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from balance.timeseries.autoregression import (
    AUTOREGRESSION,
    SEASONAL_DIFFERENCE,
    Autoregression,
    extend,
    layouts,
    typical,
)
from balance.timeseries.backtest import combine
from balance.timeseries.catalogue import ALL_METHODS
from balance.timeseries.methods import NOT_APPLICABLE, Method, Problem, run
from balance.timeseries.profiles import ANALOGUES, SMOOTH_LEVEL_SCALED
from balance.timeseries.regression import solve
from balance.timeseries.statistical import SEASONAL_ARIMA

HOURS = np.arange(24 * 7 * 5)
SHAPE = np.sin(2 * np.pi * HOURS / 24) + 0.5 * np.cos(2 * np.pi * HOURS / 168)
NOISY = 5 + SHAPE + np.random.default_rng(0).normal(0, 0.1, len(HOURS))
WEEKS = Problem(NOISY[:-24], 24, (24, 168), True)


@pytest.mark.parametrize("method", ALL_METHODS, ids=lambda method: method.name)
def test_a_method_forecasts_a_plain_season_or_says_that_it_does_not_apply(method: Method) -> None:
    """Finite, the horizon long; what holds the season is better than the mean."""
    fit = run(method, WEEKS)
    if fit.values is None:
        assert fit.reason == NOT_APPLICABLE
        return
    seasonal = method.name not in {"naive", "mean", "level", "drift"}
    error, spread = np.abs(fit.values - NOISY[-24:]).mean(), np.abs(NOISY[-24:] - NOISY.mean()).mean()
    assert error < 0.7 * spread or not seasonal


@pytest.mark.parametrize("method", [one for one in ALL_METHODS if one.fit], ids=lambda method: method.name)
def test_what_was_learnt_is_gone_by(method: Method) -> None:
    """With the parameters of a fit the same forecast comes out without one; parameters of another kind are refitted."""
    fitted = run(method, WEEKS)
    assert fitted.values is not None
    again = run(replace_fit(method), replace(WEEKS, known=fitted.learnt), refit=False)
    assert again.values == pytest.approx(fitted.values, rel=1e-6)
    other = run(method, replace(WEEKS, known=np.array([99.0, 1.0])), refit=False)
    assert other.values is not None


def replace_fit(method: Method) -> Method:
    def refuse(problem: Problem) -> np.ndarray:
        raise AssertionError("it was fitted again")

    return replace(method, fit=refuse)


def test_smoothed_seasons_beat_single_lags_under_noise() -> None:
    """The typical day and week carry less noise than any single day: a third of its error."""
    misses = {"autoregression": 0.0, "single": 0.0}
    for seed in range(6):
        values = 5 + SHAPE + np.random.default_rng(seed).normal(0, 0.3, len(HOURS))
        problem = Problem(values[:-24], 24, (24, 168), True)
        made, naive = run(AUTOREGRESSION, problem).values, values[-48:-24]
        assert made is not None
        misses["autoregression"] += float(np.abs(made - SHAPE[-24:] - 5).mean())
        misses["single"] += float(np.abs(naive - SHAPE[-24:] - 5).mean())
    assert misses["autoregression"] < 0.33 * misses["single"]


def test_the_typical_season_knows_nothing_of_its_own_step() -> None:
    """A change of the newest value moves no typical value before the next season, smoothed or not."""
    values = NOISY[:100].copy()
    for side in (0, 2):
        before = typical(values, 24, 0.3, side)
        changed = values.copy()
        changed[-1] += 100
        after = typical(changed, 24, 0.3, side)
        assert np.array_equal(before[: 100 + 23 - side], after[: 100 + 23 - side])
        assert before[123] != after[123]


def test_a_long_horizon_goes_on_step_by_step_as_the_whole() -> None:
    """Blocks of steps are a shortcut: forecasting two days and a half is forecasting them a step at a time."""
    y = WEEKS.values - WEEKS.values.mean()
    for windows in (False, True):
        learnt = Autoregression(0.9, windows).fit(WEEKS)
        assert learnt is not None
        layout = layouts(WEEKS, windows)[int(learnt[0])]
        whole, known = extend(y, layout, learnt[1:], 60), y
        for step in range(60):
            known = np.append(known, extend(known, layout, learnt[1:], 1))
            assert known[-1] == pytest.approx(whole[step], abs=1e-9)


def test_one_wild_hour_does_not_bend_the_fit() -> None:
    """A flash crowd a week ago leaves a robust forecast nearly where it was; least squares moves far more."""
    wild = WEEKS.values.copy()
    wild[-400] += 40
    moved = {}
    for robust in (True, False):
        plain, bent = (
            run(AUTOREGRESSION, replace(WEEKS, values=v, robust=robust)).values for v in (WEEKS.values, wild)
        )
        assert plain is not None and bent is not None
        moved[robust] = float(np.abs(plain - bent).mean())
    assert moved[True] < 0.5 * moved[False]


def test_a_fit_that_starts_near_ends_where_one_from_nothing_does() -> None:
    """One round from the old coefficients is worth all rounds from nothing."""
    rng = np.random.default_rng(1)
    rows = np.column_stack([rng.normal(size=(300, 2)), np.ones(300)])
    target = rows @ [2.0, -1.0, 5.0] + rng.standard_t(2, 300) * 0.1
    whole = solve(rows, target, None, robust=True)
    warm = solve(rows, target, None, robust=True, start=whole)
    assert warm == pytest.approx(whole, abs=0.005)


def test_analogues_find_the_week_that_was_like_this_one() -> None:
    """Two kinds of weeks in turn: what follows is taken from the kind that this one is."""
    calm, busy = np.sin(2 * np.pi * HOURS[:48] / 24), 3 * np.sin(2 * np.pi * HOURS[:48] / 24)
    kinds = np.concatenate([calm, busy] * 8)[: 48 * 15 + 36]
    fit = run(ANALOGUES, Problem(kinds[:-12], 12, (24,), True))
    assert fit.values == pytest.approx(kinds[-12:], abs=0.3)


def test_the_nearest_analogue_counts_most() -> None:
    """One week of the past was as busy as this one: what followed it is the forecast, though six weeks are averaged."""
    calm, busy = np.sin(2 * np.pi * HOURS[:48] / 24), 3 * np.sin(2 * np.pi * HOURS[:48] / 24)
    kinds = np.concatenate([calm] * 5 + [busy] * 2 + [calm] * 7 + [busy] * 2)[:-12]
    fit = run(ANALOGUES, Problem(kinds[:-12], 12, (24,), True))
    assert fit.values == pytest.approx(kinds[-12:], abs=0.6)


def test_analogues_are_compared_at_one_level() -> None:
    """While demand grows, the week like this one lies lower; as they stand, weeks of the other kind are nearer."""
    calm, busy = np.sin(2 * np.pi * HOURS[:48] / 24), 3 * np.sin(2 * np.pi * HOURS[:48] / 24)
    kinds = np.concatenate([calm, busy] * 8)[: 48 * 15 + 36]
    grown = kinds + 0.05 * np.arange(len(kinds))
    fit = run(ANALOGUES, Problem(grown[:-12], 12, (24,), True))
    assert fit.values == pytest.approx(grown[-12:], abs=0.3)


def test_one_moment_is_not_several_analogues() -> None:
    """The nearest two days were followed by something odd: moments just before and after them do not say it again."""
    day = np.sin(2 * np.pi * np.arange(96) / 96)
    past = np.concatenate([size * day for size in (1.3,) * 5 + (1.1,) * 2 + (1.3,) * 6 + (1.0,) * 2])
    past[7 * 96 : 7 * 96 + 12] += 2.0
    fit = run(ANALOGUES, Problem(past, 12, (96,), True))
    assert fit.values is not None
    assert 0.5 < (fit.values - day[:12]).mean() < 0.9


def test_the_smoothed_shape_follows_the_level_of_now() -> None:
    """After a doubling twenty minutes ago the forecast is yesterday's shape, doubled (a sum on the log scale)."""
    day = np.sin(2 * np.pi * np.arange(288) / 288)
    values = np.tile(day, 4)[:-140]
    values[-4:] += np.log(2)
    fit = run(SMOOTH_LEVEL_SCALED, Problem(values, 12, (288,), True))
    assert fit.values == pytest.approx(np.tile(day, 4)[-140:-128] + np.log(2), abs=0.01)


def test_differences_are_added_to_the_season_before_last_too() -> None:
    """A horizon of two seasons goes on from its own first season."""
    ramp = np.tile([0.0, 1.0, 2.0, 3.0, 2.0, 1.0], 20) + np.repeat(np.arange(20.0), 6)
    for method in (SEASONAL_DIFFERENCE, SEASONAL_ARIMA):
        fit = run(method, Problem(ramp[:-12], 12, (6,), False))
        if fit.values is not None:  # statsmodels refuses a change that never changes
            assert fit.values == pytest.approx(ramp[-12:], abs=0.5)


def test_the_weighted_median_is_not_pulled_along() -> None:
    """One forecast that went astray leaves the median with the others; equal weights of three give the middle one."""
    rows = [np.array([1.0, 5.0]), np.array([2.0, 6.0]), np.array([1e9, -1e9])]
    assert combine(rows, [1, 1, 1], robust=True).tolist() == [2.0, 5.0]
    assert combine(rows[:2], [1, 1], robust=True).tolist() == [1.5, 5.5]
    assert combine(rows[:2], [1, 3], robust=False).tolist() == [1.75, 5.75]
    assert combine(rows, [0.01, 0.01, 0.98], robust=True)[0] > 9e8
