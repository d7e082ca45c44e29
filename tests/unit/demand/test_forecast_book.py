"""The book of the latest forecasts: what is due, what is old, what can be judged."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from balance.errors import InvalidValue
from balance.prediction.demand import ForecastBook


def made(step_s: float = 10.0, steps: int = 6, value: float = 1.0) -> dict[str, Any]:
    """Return a forecast as a predictor would."""
    return {"status": "ok", "step_s": step_s, "point": [value] * steps}


@pytest.fixture
def book() -> ForecastBook:
    """A book that wants six steps of ten seconds."""
    return ForecastBook(10.0, 6)


def test_the_longest_neglected_is_due_first(book: ForecastBook) -> None:
    """Series without a forecast come before old ones, older before newer; one of the newest step is not due."""
    book.put("new", made(), 100.0)
    book.put("old", made(), 80.0)
    book.put("older", made(), 70.0)
    assert book.due(["new", "old", "older", "never"], 109.9) == ["never", "older", "old"]
    assert book.due(["new"], 110.0) == ["new"]


def test_lateness_is_counted_in_steps(book: ForecastBook) -> None:
    """By it, series of several books are compared; one without a forecast is the latest of all."""
    book.put("a", made(), 100.0)
    assert [book.late_steps(name, 125.0) for name in ("a", "never")] == [2.0, math.inf]


def test_an_expired_series_is_due_until_it_is_forecast(book: ForecastBook) -> None:
    """`expire` makes every series due although nothing has passed, and counts those that are left."""
    book.put("a", made(), 100.0)
    book.put("b", made(), 100.0)
    book.expire()
    assert (book.due(["a", "b"], 101.0), book.expired) == (["a", "b"], 2)
    book.put("a", made(), 100.0)
    assert (book.due(["a", "b"], 101.0), book.expired) == (["b"], 1)


def test_what_could_not_be_forecast_is_due_a_step_later(book: ForecastBook) -> None:
    """A series whose fit failed does not keep the fitters busy: it has its next turn with the next step."""
    book.pass_over("a", 100.0)
    assert book.due(["a"], 109.0) == []
    assert book.due(["a"], 110.0) == ["a"]


@pytest.mark.parametrize(("now", "age_s", "status"), [(100.0, 0.0, "ok"), (130.0, 30.0, "ok"), (130.1, 30.1, "stale")])
def test_a_forecast_tells_its_age(book: ForecastBook, now: float, age_s: float, status: str) -> None:
    """The age is counted from the last that it knew; past half of its steps it says that it is stale."""
    book.put("a", made(), 100.0)
    told = book.latest(now)["a"]
    assert (told["starts_at"], told["status"]) == (100.0, status)
    assert told["age_s"] == pytest.approx(age_s)


def test_an_older_forecast_does_not_replace_a_newer_one(book: ForecastBook) -> None:
    """Answers of fitters may come in any order."""
    book.put("a", made(value=2.0), 110.0)
    book.put("a", made(value=1.0), 100.0)
    assert book.latest(110.0)["a"]["point"][0] == 2.0


def test_each_truth_is_judged_once(book: ForecastBook) -> None:
    """Of overlapping forecasts one is judged, when all its steps have passed; then the next that begins there."""
    for start in range(100, 240, 10):
        book.put("a", made(), float(start))
    assert book.ripe(159.9) == []
    assert [kept.starts_at for _, kept in book.ripe(160.0)] == [100.0]
    assert book.ripe(160.0) == []
    assert [kept.starts_at for _, kept in book.ripe(1e9)] == [160.0, 220.0]


def test_a_restart_loses_nothing(book: ForecastBook) -> None:
    """What `changed` returns is JSON, only what is new, and gives the same book; what is there already stays."""
    book.put("a", made(), 100.0)
    first = json.loads(json.dumps(book.changed()))
    assert book.changed() == {}
    book.put("b", made(), 110.0)
    second = json.loads(json.dumps(book.changed()))
    again = ForecastBook(10.0, 6)
    again.put("b", made(value=7.0), 120.0)
    again.restore({**first, **second})
    assert again.latest(120.0)["a"] == book.latest(120.0)["a"]
    assert again.latest(120.0)["b"]["point"][0] == 7.0
    assert [name for name, _ in again.ripe(160.0)] == ["a"]


def test_it_is_bounded() -> None:
    """The series written longest ago goes first, with all that is known of it."""
    book = ForecastBook(10.0, 6, max_series=2)
    for name in ("a", "b", "a", "c"):
        book.put(name, made(), 100.0)
    assert sorted(book.latest(100.0)) == ["a", "c"]
    assert sorted(book.changed()) == ["a", "c"]
    assert {name for name, _ in book.ripe(1e9)} == {"a", "c"}


def test_mistakes_change_nothing(book: ForecastBook) -> None:
    """A step of nought, a horizon of nought, an empty id."""
    for step_s, steps in ((0.0, 6), (10.0, 0), (float("nan"), 6)):
        with pytest.raises(InvalidValue):
            ForecastBook(step_s, steps)
    with pytest.raises(InvalidValue):
        book.put("", made(), 100.0)
    assert book.latest(100.0) == {}
