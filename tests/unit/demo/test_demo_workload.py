"""A day of demand has the shape that it promises, and a trace keeps its counts."""

from __future__ import annotations

import itertools
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.demo.workload import CROWDS, DAYS, EVENING, MORNING, arrivals, from_trace, rate
from balance.errors import InvalidValue


def test_the_same_seed_draws_the_same_day() -> None:
    """Same seed, same requests; another seed, others; another run, other ids."""
    first = list(arrivals(30.0, seed=3))
    assert first == list(arrivals(30.0, seed=3))
    assert [a.t_s for a in first] != [a.t_s for a in arrivals(30.0, seed=4)]
    assert not {a.request["request_id"] for a in first} & {
        a.request["request_id"] for a in arrivals(30.0, seed=3, run_id="again")
    }


@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_the_number_of_requests_is_what_the_rates_add_up_to(scale: float) -> None:
    """The count lies within five standard deviations of the Poisson mean; ids are unique; times are in order."""
    day = list(arrivals(60.0, seed=11, scale=scale))
    wanted = scale * (60.0 * sum(d.mean_per_s for d in DAYS.values()) + sum(c.size for c in CROWDS))
    assert abs(len(day) - wanted) < 5 * wanted**0.5
    assert len({a.request["request_id"] for a in day}) == len(day)
    assert all(0 <= a.t_s <= b.t_s < 60.0 for a, b in itertools.pairwise(day))


def test_two_peaks_stand_out_of_the_night() -> None:
    """Forecasts peak in the morning, searches in the evening, and both see both."""
    for model_id, higher, lower in (("forecaster", MORNING, EVENING), ("indexer", EVENING, MORNING)):
        noon = rate(model_id, 0.57, 1.0)
        assert rate(model_id, higher, 1.0) > rate(model_id, lower, 1.0) > 1.5 * noon
        drawn = Counter(int(a.t_s / 60 * 50) for a in arrivals(60.0, seed=5, scale=20) if a.model_id == model_id)
        assert drawn[int(higher * 50)] > 3 * drawn[2]


def test_a_crowd_asks_for_one_thing_at_once() -> None:
    """Around a crowd's moment most forecasts are of its key; the key is hot over the whole day."""
    day = list(arrivals(60.0, seed=2))
    crowd = CROWDS[0]
    moment = [a for a in day if abs(a.t_s / 60 - crowd.at) < 2 * crowd.width and a.model_id == crowd.model_id]
    same = [a for a in moment if all(a.request[k] == v for k, v in crowd.fields.items())]
    assert len(same) > 40
    assert len(same) > 0.7 * len(moment)
    keys = Counter(a.key for a in day if a.model_id == "forecaster")
    assert 0.3 < keys["co2"] / keys.total() < 0.6


def test_priorities_are_spread() -> None:
    """All five priorities occur, so that a report can tell them apart."""
    shares = Counter(a.request["priority"] for a in arrivals(60.0, seed=2))
    assert sorted(shares) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("duration_s", "scale"), [(0.0, 1.0), (float("nan"), 1.0), (60.0, -1.0), (60.0, float("inf"))])
def test_a_day_that_makes_no_sense_is_refused(duration_s: float, scale: float) -> None:
    """Before the first request is drawn, with the value in the message."""
    with pytest.raises(InvalidValue):
        next(arrivals(duration_s, seed=1, scale=scale))


def test_no_demand_is_no_requests() -> None:
    """Scale 0 draws nothing and ends."""
    assert list(arrivals(60.0, seed=1, scale=0.0)) == []


LINES = st.lists(
    st.tuples(st.floats(0, 100), st.integers(0, 20), st.dictionaries(st.sampled_from(["a", "b"]), st.floats(0, 1e6))),
    max_size=20,
)


@given(LINES, st.floats(0.1, 100))
def test_a_trace_keeps_its_counts_and_its_order(steps: list[tuple[float, int, dict[str, float]]], speed: float) -> None:
    """As many requests as the trace counts, in the order of time, each for a model of the demo."""
    times = itertools.accumulate(step for step, _, _ in steps)
    trace = [SimpleNamespace(t_s=t, count=n, sizes=sizes) for t, (_, n, sizes) in zip(times, steps, strict=True)]
    replayed = list(from_trace(iter(trace), speed=speed))
    assert len(replayed) == sum(line.count for line in trace)
    assert all(a.t_s <= b.t_s + 1e-9 for a, b in itertools.pairwise(replayed))
    assert {a.model_id for a in replayed} <= set(DAYS)


def test_a_larger_size_is_a_heavier_request() -> None:
    """The largest tenth of the sizes asks for longer horizons than the smallest tenth."""
    sizes = [float(7919 * n % 1000) for n in range(3000)]
    trace = (SimpleNamespace(t_s=float(n), count=1, sizes={"tokens": size}) for n, size in enumerate(sizes))
    horizons: dict[bool, list[int]] = {False: [], True: []}
    for arrival, size in zip(from_trace(trace), sizes, strict=True):
        if arrival.model_id == "forecaster" and (size < 100 or size > 900):
            horizons[size > 900].append(arrival.request["horizon"])
    assert min(horizons[True][20:]) > max(horizons[False][20:])


def test_a_limit_ends_an_endless_trace() -> None:
    """No more of the trace is read than is needed."""
    endless = (SimpleNamespace(t_s=float(n), count=3, sizes={}) for n in itertools.count())
    assert len(list(from_trace(endless, limit=10))) == 10
