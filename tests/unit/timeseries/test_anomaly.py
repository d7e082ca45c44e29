"""The anomaly scorer: one alarm for one event, none for what is usual, nothing from the future."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from balance.errors import InvalidValue
from balance.timeseries.anomaly import AnomalyScorer


def noisy_days(n: int = 600, seed: int = 0) -> np.ndarray:
    return np.asarray(50 + 20 * np.sin(np.arange(n) / 10) + np.random.default_rng(seed).normal(0, 1, n))


def test_one_event_raises_one_alarm() -> None:
    """A jump is found at its first value and not reported again while it lasts."""
    values = noisy_days()
    values[400:420] += 100
    scorer = AnomalyScorer()
    alarms = [i for i, value in enumerate(values) if scorer.update(value).is_anomaly]
    assert 400 in alarms
    assert not [i for i in alarms if 400 < i <= 500]


def test_a_missing_rise_is_unusual_too() -> None:
    """Values well within the range are unusual where the pattern breaks."""
    values = noisy_days()
    values[431:445] = values[430]
    scorer = AnomalyScorer()
    scores = [scorer.update(value).score for value in values]
    assert max(scores[431:446]) > 0.45


def test_usual_noise_is_quiet_for_the_most_part() -> None:
    """Of 2000 values of noise at most one in a hundred raises an alarm."""
    scorer = AnomalyScorer()
    values = np.random.default_rng(3).normal(0, 1, 2000)
    assert sum(scorer.update(value).is_anomaly for value in values) <= 20


def test_scores_do_not_change_when_the_future_is_cut_off() -> None:
    """The score of a value is a function of it and earlier ones."""
    values = noisy_days(300)
    whole, cut = AnomalyScorer(), AnomalyScorer()
    everything = [whole.update(value).score for value in values]
    assert [cut.update(value).score for value in values[:150]] == everything[:150]


def test_scale_and_offset_change_nothing() -> None:
    """Bytes or gigabytes: the same scores."""
    values = noisy_days(300)
    a, b = AnomalyScorer(), AnomalyScorer()
    for value in values:
        assert a.update(value).score == pytest.approx(b.update(1000 * value + 5).score, abs=1e-6)


def test_a_flat_line_may_tremble_but_not_jump() -> None:
    """Rounding is no anomaly; a real step on a flat line is one, with the full score."""
    scorer = AnomalyScorer()
    assert not any(scorer.update(7.0 + 1e-12 * (i % 3)).is_anomaly for i in range(200))
    jump = scorer.update(8.0)
    assert jump.is_anomaly
    assert jump.score > 0.99


def test_gaps_are_left_out_and_non_numbers_raise() -> None:
    """NaN and infinity are gaps: they are not remembered."""
    scorer = AnomalyScorer()
    for value in (math.nan, math.inf, 1e200):
        assert scorer.update(value).status == "gap"
    with pytest.raises(InvalidValue):
        scorer.update("high")  # type: ignore[arg-type]
    assert scorer.snapshot()["values"] == []


def test_state_goes_through_json_and_memory_is_bounded() -> None:
    """A restored scorer goes on as the original; no more than `memory` values are kept."""
    scorer, copy = AnomalyScorer(memory=128), AnomalyScorer(memory=128)
    for value in noisy_days(700):
        scorer.update(value)
    state = json.loads(json.dumps(scorer.snapshot(), allow_nan=False))
    assert len(state["values"]) == 128
    copy.restore(state)
    for value in noisy_days(50, seed=9):
        assert copy.update(value) == scorer.update(value)
