"""The band around a forecast comes from its own past errors."""

from __future__ import annotations

import numpy as np
import pytest

from balance.timeseries.conformal import error_quantiles

LEVELS = (0.01, 0.1, 0.5, 0.9, 0.99)


@pytest.mark.parametrize("shift", [-5.0, 5.0])
def test_a_one_sided_past_does_not_push_the_band_off_the_forecast(shift: float) -> None:
    """Where all errors had one sign, the other side of the band touches the forecast and does not cross it."""
    errors = shift + np.random.default_rng(0).normal(0, 0.1, (6, 12))
    bands = error_quantiles(errors, 12, LEVELS)
    assert all((bands[level] <= 0).all() for level in (0.01, 0.1))
    assert all((bands[level] >= 0).all() for level in (0.9, 0.99))
    assert not bands[0.5].any()


def test_steps_with_larger_errors_get_a_wider_band_that_goes_on_growing() -> None:
    """Errors that grow with the distance widen the band, also beyond the steps that were tried."""
    errors = np.sqrt(np.arange(1, 13)) * np.array([1.0, -1.0, 1.0, -1.0])[:, None]
    upper = error_quantiles(errors, 48, LEVELS)[0.9]
    assert (np.diff(upper) >= 0).all()
    assert upper[47] == pytest.approx(2 * upper[11])


def test_a_quiet_hour_after_a_busy_one_has_a_narrower_band() -> None:
    """It narrows by no more than half, however quiet the hour was, and beyond what was tried the widest goes on."""
    sizes = np.repeat([4.0, 1.0, 0.0], 12)
    upper = error_quantiles(np.stack([sizes, -sizes]), 72, LEVELS)[0.9]
    busy, quiet, silent = upper[5], upper[18], upper[30]
    assert quiet / busy == pytest.approx((1 + 4) / 8)
    assert silent / busy == pytest.approx(1 / 2)
    assert upper[36] >= busy
    assert upper[71] == pytest.approx(busy * np.sqrt(2))


def test_few_origins_widen_the_band() -> None:
    """The same errors count for less when they come from fewer origins."""
    errors = np.random.default_rng(2).normal(0, 1, (6, 12))
    few, many = (error_quantiles(rows, 12, LEVELS)[0.9] for rows in (errors.reshape(1, -1)[:, :12], errors))
    same = error_quantiles(np.repeat(errors[:1], 6, axis=0), 12, LEVELS)[0.9]
    assert (few > same).all()
    assert many.shape == few.shape


def test_no_error_no_band() -> None:
    """A forecast that was always exact gets no band, and nothing is divided by zero."""
    assert all(not values.any() for values in error_quantiles(np.zeros((3, 4)), 9, LEVELS).values())


def test_one_sided_errors_widen_both_sides() -> None:
    """Forecasts that were all too low say how far off the next may be, on either side."""
    errors = np.abs(np.random.default_rng(3).normal(0, 1, (6, 12)))
    bands = error_quantiles(errors, 12, LEVELS)
    assert bands[0.1] == pytest.approx(-bands[0.9])
    assert (bands[0.9] > 0).all()


def test_a_band_of_80_percent_holds_that_share_of_its_own_errors() -> None:
    """Before it is widened for few origins, four in five of the errors that it comes from lie within it."""
    errors = np.random.default_rng(4).normal(0, 1, (400, 12))
    bands = error_quantiles(errors, 12, LEVELS)
    inside = (errors >= bands[0.1]) & (errors <= bands[0.9])
    assert inside.mean() == pytest.approx(0.8, abs=0.01)
