"""The combined forecaster: right on what can be known, honest about what can't."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from balance.clock import FakeClock
from balance.errors import InvalidValue
from balance.timeseries import LIGHT_METHODS, CombinedForecaster
from balance.timeseries.autoregression import AUTOREGRESSION
from balance.timeseries.combination import ENOUGH
from balance.timeseries.methods import NAIVE, Method, Problem
from balance.timeseries.profiles import SEASONAL_NAIVE
from balance.timeseries.statistical import EXPONENTIAL_SMOOTHING, HARMONIC_REGRESSION


def light() -> CombinedForecaster:
    return CombinedForecaster(clock=FakeClock(), methods=LIGHT_METHODS)


def busy_days(days: int = 14, seed: int = 0) -> np.ndarray:
    hours = np.arange(24 * days)
    noise = np.exp(np.random.default_rng(seed).normal(0, 0.08, len(hours)))
    return np.asarray(200 * (1.2 + np.sin(2 * np.pi * hours / 24)) * noise)


def test_a_daily_pattern_is_continued() -> None:
    """Half the error of repeating the last day, the season found without being told."""
    values = busy_days()
    made = light().forecast(values[:-24], 24)
    assert made.status == "ok"
    assert made.seasons[0] == 24
    ours = np.abs(made.point - values[-24:]).mean()
    assert ours < 0.85 * np.abs(values[-48:-24] - values[-24:]).mean()


def test_the_80_percent_band_holds_about_80_percent() -> None:
    """Over many series the truth lies between the 0.1 and the 0.9 quantile in 70 to 92 % of the steps."""
    inside = []
    for seed in range(8):
        values = busy_days(8, seed)
        made = light().forecast(values[:-12], 12, season=24)
        inside.append(((values[-12:] >= made.quantiles[0.1]) & (values[-12:] <= made.quantiles[0.9])).mean())
    assert 0.70 <= np.mean(inside) <= 0.92


def test_sparse_counts_forecast_the_mean_rate() -> None:
    """Three requests in ten steps are 0.3 a step, although the median is 0."""
    values = np.random.default_rng(1).poisson(0.3, 400).astype(float)
    made = light().forecast(values, 20)
    assert made.point.mean() == pytest.approx(0.3, abs=0.12)


def test_a_shift_of_level_is_followed() -> None:
    """After the load doubled, the forecast is at the new level."""
    values = np.concatenate([np.full(200, 100.0), np.full(40, 200.0)])
    values *= np.exp(np.random.default_rng(2).normal(0, 0.02, len(values)))
    assert light().forecast(values, 10).point.mean() == pytest.approx(200, rel=0.1)


@pytest.mark.parametrize("values", [[], [5.0], [1, 2, 3], [float("nan")] * 50, [float("inf"), 4.0]])
def test_too_little_is_said_and_answered_naively(values: list[float]) -> None:
    """Fewer than eight measured values: the last one is repeated, and the status says why."""
    made = light().forecast(values, 5)
    known = [value for value in values if np.isfinite(value)]
    assert made.status == "insufficient_data"
    assert made.point.tolist() == [known[-1] if known else 0.0] * 5
    assert made.backtest.origins == 0
    assert str(ENOUGH) in made.reason


def test_constant_and_zero_series_stay_so() -> None:
    """What never moved is forecast to stay, without a band and without a division by zero."""
    for level in (0.0, 7.0, 1e9):
        made = light().forecast([level] * 60, 10)
        assert made.status == "ok"
        assert made.point == pytest.approx([level] * 10)
        assert made.quantiles[0.9] == pytest.approx([level] * 10)
        assert made.backtest.mase is None


def test_gaps_are_closed_and_the_input_is_left_alone() -> None:
    """NaN and infinite values cost little accuracy, and the caller's array is not written to."""
    values = busy_days()
    holed = values.copy()
    holed[::17] = np.nan
    holed[5] = np.inf
    before = holed.copy()
    made = light().forecast(holed, 24, season=24)
    whole = light().forecast(values, 24, season=24)
    assert np.array_equal(before, holed, equal_nan=True)
    assert np.abs(made.point - whole.point).mean() < 0.2 * whole.point.mean()


def test_a_horizon_beyond_the_history_is_answered() -> None:
    """200 steps from 12 values: finite, and the band does not shrink with the distance."""
    made = light().forecast([3, 5, 4, 6, 5, 4, 6, 5, 7, 5, 4, 6], 200)
    width = made.quantiles[0.9] - made.quantiles[0.1]
    assert made.point.shape == (200,)
    assert width[-1] >= width[0] > 0


def test_statsmodels_takes_part_and_its_warnings_are_notes() -> None:
    """With time at hand the fits of statsmodels are weighed too; no warning gets out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = CombinedForecaster(
            clock=FakeClock(), methods=(NAIVE, HARMONIC_REGRESSION, EXPONENTIAL_SMOOTHING)
        ).forecast(busy_days(6), 12, season=24)
    assert {"harmonic_regression", "exponential_smoothing"} & set(made.weights)


def test_a_method_that_breaks_is_a_note() -> None:
    """An exception inside a method, or NaN out of it, leaves the others standing."""

    def explode(problem: Problem) -> np.ndarray:
        raise RuntimeError("singular")

    methods = (NAIVE, Method("bad", explode), Method("nan", lambda problem: np.full(problem.horizon, np.nan)))
    made = CombinedForecaster(clock=FakeClock(), methods=methods).forecast(busy_days(3), 4)
    assert made.method == "naive"
    assert any("RuntimeError: singular" in note for note in made.notes)
    assert any("not finite" in note for note in made.notes)


def test_the_budget_stops_the_backtest_after_its_first_origin() -> None:
    """With no time at all there is still one origin, and an answer."""

    class Racing(FakeClock):
        def now(self) -> float:
            self.advance(1.0)
            return super().now()

    made = CombinedForecaster(clock=Racing(), budget_s=0.0).forecast(busy_days(), 12)
    assert made.status == "ok"
    assert made.backtest.origins == 1
    assert "exponential_smoothing" not in made.weights


def test_a_calibration_saves_the_backtest_and_changes_nothing() -> None:
    """The same series with its own calibration gives the same forecast."""
    values = busy_days()
    forecaster = light()
    calibration = forecaster.calibrate(values, 12)
    again = forecaster.forecast(values, 12, calibration=calibration)
    assert again.point.tolist() == forecaster.forecast(values, 12).point.tolist()


def test_a_series_that_goes_on_is_learnt_by_its_new_origins_only() -> None:
    """Going on costs a few fits, not a backtest, and the forecast is as good as one learnt from nothing."""
    fits = 0

    def counting(problem: Problem) -> np.ndarray | None:
        nonlocal fits
        fits += 1
        return AUTOREGRESSION.fit(problem) if AUTOREGRESSION.fit else None

    methods = (Method("autoregression", AUTOREGRESSION.predict, counting), SEASONAL_NAIVE)
    forecaster = CombinedForecaster(clock=FakeClock(), methods=methods)
    values = busy_days(20)
    first = forecaster.calibrate(values[:-36], 12, season=24)
    from_nothing, fits = fits, 0
    second = forecaster.calibrate(values[:-24], 12, season=24, previous=first)
    assert second is not None and first is not None
    assert (fits, from_nothing > 5) == (1, True)
    assert [origin.at for origin in second.trials.origins[:3]] == [444, 438, 432]
    assert forecaster.calibrate(values[:-21], 12, season=24, previous=second) is second
    made = forecaster.forecast(values[:-24], 12, calibration=second)
    assert fits == 1
    anew = forecaster.forecast(values[:-24], 12, season=24)
    assert made.point == pytest.approx(anew.point, rel=0.05)


def test_a_window_that_slides_is_recognised() -> None:
    """What fell off at the start moves the origins; their forecasts stay those of the same moments."""
    forecaster, values = light(), busy_days(20)
    first = forecaster.calibrate(values[:400], 12, season=24)
    second = forecaster.calibrate(values[12:412], 12, season=24, previous=first)
    assert first is not None and second is not None
    kept, before = second.trials.origins[2], first.trials.origins[0]
    assert kept.at == before.at - 12
    assert np.array_equal(kept.truth, before.truth)
    assert np.array_equal(kept.made["seasonal_naive"], before.made["seasonal_naive"])


def test_what_does_not_go_on_is_learnt_from_nothing() -> None:
    """Another series, revised values, another season or half of the origins new: all methods are tried again."""
    methods = (AUTOREGRESSION, SEASONAL_NAIVE, NAIVE)
    forecaster, values = CombinedForecaster(clock=FakeClock(), methods=methods), busy_days(20)
    first = forecaster.calibrate(values[:300], 12, season=24)
    revised = values[:312].copy()
    revised[280] *= 1.01
    for again, season in ((busy_days(20, 5)[:312], 24), (revised, 24), (values[:312], 12), (values[:430], 24)):
        made = forecaster.calibrate(again, 12, season=season, previous=first)
        alone = forecaster.calibrate(again, 12, season=season)
        assert made is not None and alone is not None
        assert made.weights == alone.weights
        assert made.renewed == 0


def test_a_calibration_of_another_nature_is_thrown_away() -> None:
    """A busy series that fell almost silent is learnt anew."""
    forecaster = light()
    calibration = forecaster.calibrate(busy_days(), 12)
    silent = np.zeros(200)
    silent[::9] = 1
    made = forecaster.forecast(silent, 12, calibration=calibration)
    assert made.point.max() < 2


def test_results_are_json() -> None:
    """The dict holds JSON types only and no NaN."""
    made = light().forecast(busy_days(), 3, quantiles=(0.9, 0.05))
    assert list(json.loads(json.dumps(made.to_dict(), allow_nan=False))["quantiles"]) == ["0.05", "0.9"]


@pytest.mark.parametrize(
    "change",
    [{"horizon": 0}, {"horizon": 10**9}, {"quantiles": [1.5]}, {"season": -1}, {"values": "abc"}, {"values": [[1.0]]}],
)
def test_a_callers_mistake_raises(change: dict[str, object]) -> None:
    """A horizon, level, season or series that can't be is named."""
    with pytest.raises(InvalidValue):
        light().forecast(**{"values": busy_days(), "horizon": 3, **change})  # type: ignore[arg-type]
