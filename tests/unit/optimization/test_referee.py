"""What forecasts are made with, by how they did: demoted when they lose, taken back when they win."""

from __future__ import annotations

import json
from typing import Any

import pytest

from balance.errors import InvalidValue
from balance.prediction.optimization import Referee

TRUTH = [10.0, 12.0, 11.0, 13.0] * 6
PAST = [11.0, 12.0]


def forecast(error: float, **more: Any) -> dict[str, Any]:
    """Return a forecast that is wrong by so much at every step."""
    point = [value + error for value in TRUTH]
    return {"point": point, "quantiles": {"0.1": point, "0.9": point}, "method": "theta+ets", "seasons": [], **more}


def lose(referee: Referee, series: str = "a") -> None:
    """Let the combination lose to the simple method for long enough."""
    for _ in range(2):
        referee.judge(series, forecast(50.0), TRUTH, PAST)


def test_what_loses_is_not_used_and_comes_back_when_it_wins() -> None:
    """A combination that loses to the simple one is demoted; still made beside it and scored, it is taken back."""
    referee = Referee()
    lose(referee)
    assert referee.plain("a") and referee.reports()["a"]["used"] == "simple"
    assert not referee.plain("b")
    for _ in range(40):
        verdict = referee.judge("a", forecast(1.5, method="naive", rivals={"combination": TRUTH}), TRUTH, PAST)
        if not referee.plain("a"):
            break
    assert verdict["action"] == "take_back" and referee.reports()["a"]["used"] == "combination"
    assert referee.refits() == {"a"} and referee.refits() == set(), "what it had learnt is out of date"


def test_what_wins_is_kept() -> None:
    """A good forecast stays in use, and its figures can be read."""
    referee = Referee()
    for _ in range(5):
        referee.judge("a", forecast(0.1), TRUTH, PAST)
    report = referee.reports()["a"]
    assert not referee.plain("a") and report["used"] == "combination"
    assert report["mae"] == pytest.approx(0.1) and report["total_scored"] == 5 * len(TRUTH)


def test_it_survives_a_restart() -> None:
    """The state is JSON, and the next verdict is the same."""
    referee, again = Referee(), Referee()
    lose(referee)
    again.restore(json.loads(json.dumps(referee.snapshot())))
    assert again.plain("a") and again.reports() == referee.reports()
    assert again.judge("a", forecast(0.1), TRUTH, PAST) == referee.judge("a", forecast(0.1), TRUTH, PAST)


def test_it_is_bounded() -> None:
    """The series judged first is forgotten first, and its demotion with it."""
    referee = Referee(max_series=2)
    lose(referee, "a")
    lose(referee, "b")
    lose(referee, "c")
    assert sorted(referee.reports()) == ["b", "c"] and not referee.plain("a")


def test_a_series_without_a_name_is_a_mistake() -> None:
    """Nothing is remembered of it."""
    referee = Referee()
    with pytest.raises(InvalidValue):
        referee.judge("", forecast(0.1), TRUTH, PAST)
    assert referee.reports() == {}
