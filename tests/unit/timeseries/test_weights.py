"""What a method weighs follows from its errors at past moments."""

from __future__ import annotations

import numpy as np
import pytest

from balance.timeseries.backtest import Origin, Trials, weigh
from balance.timeseries.series import Scale

SCALE = Scale(log=False, low=-1e9, high=1e9)


def tried(*errors: dict[str, float]) -> Trials:
    """Return a backtest, newest origin first, at which each method was off by so much."""
    origins = [
        Origin(100 - k, np.zeros(4), {name: np.full(4, off) for name, off in at.items()}) for k, at in enumerate(errors)
    ]
    return Trials(4, 1, origins)


def test_a_method_weighs_the_inverse_square_of_its_error() -> None:
    """Half as far off again as the best counts four ninths of it, over all origins, and the weights sum to 1."""
    weights = weigh(tried({"good": 2.0, "fair": -3.0}, {"fair": 6.0, "good": -4.0}), SCALE)
    assert list(weights) == ["good", "fair"]
    assert weights["fair"] / weights["good"] == pytest.approx(4 / 9)
    assert sum(weights.values()) == pytest.approx(1)


def test_a_method_with_more_than_twice_the_error_of_the_best_takes_no_part() -> None:
    """It would add nothing but its error."""
    assert set(weigh(tried({"good": 1.0, "twice": 2.0, "bad": 2.1}), SCALE)) == {"good", "twice"}


def test_a_method_that_was_tried_at_an_easy_origin_only_is_not_favoured() -> None:
    """Errors count against the others' at the same origins: where all were right, being right is no merit."""
    weights = weigh(tried({"slow": 1.0, "a": 1.0, "b": 1.0}, {"a": 9.0, "b": 9.0}), SCALE)
    assert weights == pytest.approx({"a": 1 / 3, "b": 1 / 3, "slow": 1 / 3})
