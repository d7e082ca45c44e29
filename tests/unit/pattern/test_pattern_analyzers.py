"""Usage, behaviour and trend of a model, read from the history that others record."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from balance.clock import FakeClock
from balance.errors import InvalidValue
from balance.prediction.pattern import BehaviorAnalyzer, TrendDetector, UsageAnalyzer
from balance.timeseries.history import History

EPOCH = 1_700_000_000.0 - 1_700_000_000 % 86400


def recorded(counts: Sequence[float], step_s: float = 1.0) -> tuple[History, FakeClock]:
    """Return a history with `counts` events in each step, and a clock that stands at its end."""
    history = History()
    history.add_many("arrivals/m", [(EPOCH + step_s * at, float(count)) for at, count in enumerate(counts)])
    return history, FakeClock(epoch=EPOCH + step_s * len(counts))


def rng() -> np.random.Generator:
    return np.random.default_rng(9)


def test_usage_is_that_of_the_window() -> None:
    """Level, peak, total and their times are those of the last seconds, whatever came before."""
    history, clock = recorded([100.0] * 60 + [2.0] * 30 + [8.0] + [2.0] * 29)
    usage = UsageAnalyzer(history=history, clock=clock).analyze_usage("m", 60)
    assert (usage["status"], usage["level"], usage["peak"], usage["low"]) == ("ok", 2.0, 8.0, 2.0)
    assert (usage["total"], usage["mean"], usage["latest"]) == (126.0, 2.1, 2.0)
    assert usage["peak_at"] == EPOCH + 90
    assert usage["percentiles"]["p50"] == 2.0
    json.dumps(usage, allow_nan=False)


def test_burstiness_tells_bursts_from_a_rising_mean() -> None:
    """Independent arrivals have 1, also where their mean rises; bursts have more, a metronome nothing."""
    rising = rng().poisson(np.linspace(5, 50, 600))
    bursts = rng().poisson(5, 600) * rng().choice([0, 6], 600)
    found = {}
    for name, counts in {"rising": rising, "bursts": bursts, "metronome": np.full(600, 5)}.items():
        history, clock = recorded(counts)
        found[name] = UsageAnalyzer(history=history, clock=clock).analyze_usage("m", 599)
    assert found["rising"]["burstiness"] == pytest.approx(1.0, abs=0.25)
    assert found["rising"]["dispersion"] > 4
    assert found["bursts"]["burstiness"] > 10
    assert found["metronome"]["burstiness"] == 0
    assert found["metronome"]["status"] == "constant"


def test_a_day_is_found_in_a_week() -> None:
    """The season is looked for in all that is known, beyond the window."""
    minutes = np.arange(7 * 24 * 6)
    history, clock = recorded(rng().poisson(300 + 200 * np.sin(2 * np.pi * minutes / 144)), step_s=600.0)
    usage = UsageAnalyzer(history=history, clock=clock).analyze_usage("m", 86400)
    assert usage["seasons"][0]["season_s"] == 86400.0
    assert usage["seasons"][0]["strength"] > 0.9


def test_a_morning_is_no_trend_but_growth_is() -> None:
    """With days known, a rise within the day is the season; a rise beyond that is a trend."""
    minutes = np.arange(14 * 24 * 6)
    daily = 300 + 200 * np.sin(2 * np.pi * minutes / 144)
    flat, clock = recorded(rng().poisson(daily[: -3 * 24]), step_s=600.0)  # ends half-way through a day
    grown, later = recorded(rng().poisson(daily + np.maximum(0, minutes - 1900)), step_s=600.0)
    for window in (6 * 3600, 12 * 3600):
        assert TrendDetector(history=flat, clock=clock).detect_trend("m", window)["trend"] == "none"
    found = TrendDetector(history=grown, clock=later).detect_trend("m", 16 * 3600)
    assert found["trend"] == "rising"
    assert found["slope_low_per_hour"] < 6 / 600 < found["slope_high_per_hour"]
    assert "rising" in found["summary"]


def test_a_step_is_a_change_and_a_slope_is_not() -> None:
    """A step is told with its moment and levels; a slope has no steps in it."""
    history, clock = recorded(rng().poisson([20] * 300 + [60] * 300))
    found = TrendDetector(history=history, clock=clock).detect_trend("m", 599)
    assert [round(change["at"] - EPOCH) for change in found["change_points"]] == [pytest.approx(300, abs=2)]
    assert found["change_points"][0]["after"] == pytest.approx(60, abs=3)
    history, clock = recorded(rng().poisson(np.linspace(20, 320, 600)))
    found = TrendDetector(history=history, clock=clock).detect_trend("m", 300)
    assert (found["trend"], found["change_points"]) == ("rising", [])


def test_a_shift_is_told_since_when_and_how_sure() -> None:
    """The level shift is found to the second, with what it was and what it is."""
    history, clock = recorded(rng().poisson([10] * 450 + [40] * 150))
    found = BehaviorAnalyzer(history=history, clock=clock).analyze_behavior("m", 300)
    shift = next(one for one in found["findings"] if one["kind"] == "level_shift")
    assert shift["since"] - EPOCH == pytest.approx(450, abs=1)
    assert (round(shift["expected"]), round(shift["observed"])) == (pytest.approx(10, abs=1), pytest.approx(40, abs=2))
    assert shift["until"] is None
    assert shift["confidence"] > 0.999
    assert found["is_abnormal"]
    assert found["since"] - EPOCH == pytest.approx(450, abs=1)


def test_a_spike_ends() -> None:
    """A short burst is unlike anything before, and is over when it is over."""
    counts = rng().poisson(10, 600)
    counts[500:504] = 200
    history, clock = recorded(counts)
    found = BehaviorAnalyzer(history=history, clock=clock).analyze_behavior("m", 300)
    spike = next(one for one in found["findings"] if one["kind"] == "unlike_before")
    assert spike["since"] - EPOCH == 500
    assert spike["until"] is not None
    assert 504 <= spike["until"] - EPOCH <= 508


def test_silence_is_told_and_a_usual_pause_is_not() -> None:
    """Events that stay away for longer than ever are abnormal; a pause as it was before is not."""
    history, clock = recorded(rng().poisson(3, 560).tolist())
    clock.advance(40)
    found = BehaviorAnalyzer(history=history, clock=clock).analyze_behavior("m", 300)
    silence = next(one for one in found["findings"] if one["kind"] == "silence")
    assert silence["since"] - EPOCH == pytest.approx(560, abs=2)
    assert silence["confidence"] > 0.99
    pauses = ([5.0] * 40 + [0.0] * 41) * 6
    history, clock = recorded([*pauses, *[5.0] * 40])
    clock.advance(30)
    found = BehaviorAnalyzer(history=history, clock=clock).analyze_behavior("m", 300)
    assert not any(one["kind"] == "silence" for one in found["findings"])


def test_nothing_is_made_up_of_a_calm_model() -> None:
    """Of ten calm models at most one is called abnormal at all."""
    source = rng()
    called = 0
    for _ in range(10):
        history, clock = recorded(source.poisson(10, 600))
        called += BehaviorAnalyzer(history=history, clock=clock).analyze_behavior("m", 300)["is_abnormal"]
    assert called <= 1


@pytest.mark.parametrize("kind", ["usage", "behavior", "trend"])
def test_what_is_not_known_has_a_status(kind: str) -> None:
    """Unknown, too short and constant series have a status of their own and no invented figures."""

    def ask(counts: Sequence[float], model_id: str = "m", window: float = 60) -> dict[str, object]:
        history, clock = recorded(counts)
        made = {
            "usage": lambda: UsageAnalyzer(history=history, clock=clock).analyze_usage(model_id, window),
            "behavior": lambda: BehaviorAnalyzer(history=history, clock=clock).analyze_behavior(model_id, window),
            "trend": lambda: TrendDetector(history=history, clock=clock).detect_trend(model_id, window),
        }
        result: dict[str, object] = made[kind]()
        json.dumps(result, allow_nan=False)
        return result

    assert ask([1.0] * 100, "nobody")["status"] == "unknown"
    assert ask([1.0, 2.0, 3.0])["status"] == "insufficient_data"
    assert ask([5.0] * 100)["status"] == "constant"
    assert ask([0.0] * 100)["status"] == "constant"
    assert ask(list(range(100)), window=10**9)["status"] in {"ok", "insufficient_data"}
    for window in (0, -5, float("nan"), "soon"):
        with pytest.raises(InvalidValue):
            ask([1.0] * 100, window=window)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue):
        ask([1.0] * 100, model_id="")


def test_gauges_have_gaps_and_their_own_series() -> None:
    """A gauge is read by its mean, in its own unit, and a step without a reading is no zero."""
    history, clock = History(), FakeClock(epoch=EPOCH + 60)
    history.add_many("cpu:m", [(EPOCH + at, 0.5 + at % 2) for at in range(0, 60, 3)])
    usage = UsageAnalyzer(history=history, clock=clock, series="cpu:{model_id}", kind="mean").analyze_usage("m")
    assert (usage["unit"], usage["low"], usage["known_steps"], usage["total"]) == ("value", 0.5, 20, None)
    with pytest.raises(InvalidValue):
        UsageAnalyzer(series="cpu")
    with pytest.raises(InvalidValue):
        UsageAnalyzer(kind="max")
