"""The history keeps what was recorded, at every resolution, and never more than it may."""

from __future__ import annotations

import json

import numpy as np
import pytest

from balance.errors import InvalidValue
from balance.timeseries.history import History

START = 1_700_000_000.0


def test_quiet_steps_are_zero_and_the_time_before_is_unknown() -> None:
    """A gap in events is a zero; before the first event nothing is known."""
    history = History()
    history.add("m", START + 5)
    history.add("m", START + 8, 3)
    got = history.counts("m", 1.0, 10, START + 10)
    assert np.isnan(got[:5]).all()
    assert got[5:].tolist() == [1, 0, 0, 3, 0]


def test_a_gauge_has_gaps() -> None:
    """The mean of a step without a reading is NaN, not zero."""
    history = History()
    history.add_many("cpu", [(START, 2.0), (START + 0.5, 4.0), (START + 2, 8.0)])
    assert history.values("cpu", 1.0, 3, START + 3).tolist() == pytest.approx([3.0, np.nan, 8.0], nan_ok=True)
    assert history.values("cpu", 3.0, 1, START + 4, kind="max")[0] == 8.0
    assert history.values("cpu", 1.0, 3, START + 3, kind="count").tolist() == [2, 0, 1]


def test_order_does_not_matter() -> None:
    """Late and unordered records land in their own bin, as if they had come in order."""
    points = [(START + second, float(second % 7)) for second in range(300)]
    ordered, shuffled = History(), History()
    ordered.add_many("m", points)
    shuffled.add_many("m", [points[i] for i in np.random.default_rng(1).permutation(len(points))])
    for step in (1.0, 10.0, 60.0):
        n = int(240 / step)
        a, b = (h.counts("m", step, n, START + 300) for h in (ordered, shuffled))
        assert np.array_equal(a, b, equal_nan=True)


def test_tiers_agree_and_the_coarse_ones_reach_further() -> None:
    """A question that the fine tier no longer reaches is answered by the next one, with the same totals."""
    history = History(tiers=((1.0, 60), (10.0, 60), (60.0, 60)))
    for second in range(1200):
        history.add("m", START + second, 2.0)
    now = START + 1200
    assert history.counts("m", 1.0, 50, now).sum() == 100
    assert (history.counts("m", 10.0, 50, now) == 20).all()
    wide = history.counts("m", 60.0, 20, now)
    assert np.nansum(wide[-19:]) == 19 * 120
    assert np.isnan(history.counts("m", 1.0, 100, now)[:30]).all()


def test_a_huge_gap_costs_nothing_and_clears_what_is_too_old() -> None:
    """A year of silence leaves only what came after it."""
    history = History()
    history.add("m", START, 5)
    history.add("m", START + 366 * 86400, 7)
    got = history.counts("m", 600.0, 2016, START + 366 * 86400 + 600)
    assert np.nansum(got) == 7


def test_snapshot_goes_through_json_and_back() -> None:
    """What was restored answers as the original did, and goes on recording."""
    history = History()
    history.add_many("m", [(START + 3 * i, float(i)) for i in range(500)])
    copy = History()
    copy.restore(json.loads(json.dumps(history.snapshot(), allow_nan=False)))
    for h in (history, copy):
        h.add("m", START + 1600, 9.0)
    for step, n in ((1.0, 600), (10.0, 300), (60.0, 30), (600.0, 5)):
        a, b = (h.counts("m", step, n, START + 1700) for h in (history, copy))
        assert np.array_equal(a, b, equal_nan=True)
    with pytest.raises(InvalidValue):
        History(tiers=((2.0, 10),)).restore(history.snapshot())


def test_series_are_bounded() -> None:
    """The series that was written longest ago makes room."""
    history = History(max_series=2)
    for name in ("a", "b", "a", "c"):
        history.add(name, START)
    assert history.series() == ["a", "c"]
    history.forget("a")
    assert history.series() == ["c"]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300, "x", None])
def test_a_bad_record_changes_nothing(bad: object) -> None:
    """Of many records with one bad among them none is kept."""
    history = History()
    with pytest.raises(InvalidValue):
        history.add_many("m", [(START, 1.0), (START, bad)])  # type: ignore[list-item]
    with pytest.raises(InvalidValue):
        history.add("m", bad)  # type: ignore[arg-type]
    assert history.series() == []


def test_a_bad_question_raises() -> None:
    """Steps that the tiers can't answer, unknown kinds and bad tiers name the mistake."""
    history = History()
    for step in (0.0, 0.5, 1.5, -1.0, float("nan")):
        with pytest.raises(InvalidValue):
            history.counts("m", step, 5, START)
    with pytest.raises(InvalidValue):
        history.values("m", 1.0, 5, START, kind="median")
    for tiers in ((), ((1.0, 10), (1.5, 10)), ((10.0, 5), (1.0, 5)), ((0.0, 5),)):
        with pytest.raises(InvalidValue):
            History(tiers=tiers)
    assert np.isnan(history.counts("never seen", 1.0, 3, START)).all()


def test_a_counter_that_restarts_keeps_what_came_since() -> None:
    """Growth is recorded, a fall is a restart whose count so far is kept, nothing is negative."""
    history = History()
    grown = [history.add_counter("c", START + 10 * at, reading) for at, reading in enumerate([100, 130, 130, 20, 50])]
    assert grown == [0.0, 30.0, 0.0, 20.0, 30.0]
    steps = history.counts("c", 10.0, 4, START + 40)
    assert steps.tolist() == [30.0, 0.0, 20.0, 30.0]


def test_a_pause_in_the_reading_is_no_burst() -> None:
    """What a counter grew by in a pause is spread over it, at every resolution, and adds up."""
    history, minute = History(), START - START % 60
    history.add_counter("c", minute, 0)
    history.add_counter("c", minute + 1, 5)
    history.add_counter("c", minute + 301, 1505)
    now = minute + 301
    assert history.counts("c", 1.0, 301, now) == pytest.approx(np.full(301, 5.0))
    assert np.nansum(history.counts("c", 60.0, 6, minute + 360)) == pytest.approx(1505.0)
    assert history.add_counter("c", minute + 10 * 366 * 86400, 2000) == 495.0  # bounded work, whatever the gap


def test_counters_in_any_order_lose_nothing() -> None:
    """A reading that comes late or twice is left out; the growth is in the next one."""
    history = History()
    for at, reading in ((0, 0), (10, 10), (5, 4), (10, 10), (20, 40)):
        history.add_counter("c", START + at, reading)
    assert history.counts("c", 20.0, 1, START + 20).tolist() == [40.0]
    for bad in (-1.0, float("nan"), "x"):
        with pytest.raises(InvalidValue):
            history.add_counter("c", START + 30, bad)  # type: ignore[arg-type]
    assert history.add_counter("c", START + 30, 41) == 1.0


def test_counters_survive_a_restart_and_go_with_their_series() -> None:
    """The last reading is part of the snapshot, and is forgotten with the series."""
    history = History(max_series=2)
    history.add_counter("c", START, 7)
    copy = History(max_series=2)
    copy.restore(json.loads(json.dumps(history.snapshot())))
    assert copy.add_counter("c", START + 1, 9) == 2.0
    copy.add("x", START)
    copy.add("y", START)
    assert copy.add_counter("c", START + 2, 50) == 0.0


def test_a_history_with_fewer_tiers_is_taken_over() -> None:
    """What an older Balance saved without the coarse tiers is read, and those are made from the finer ones."""
    old, new = History(tiers=((1.0, 60), (10.0, 60))), History(tiers=((1.0, 60), (10.0, 60), (60.0, 100)))
    old.add_many("m", [(START + 3 * at, 2.0) for at in range(400)])
    saved = json.loads(json.dumps(old.snapshot()))
    new.restore({**new.snapshot(), "series": saved["series"]})  # series by series, as an actor's chronicle does
    assert new.latest("m") == old.latest("m")
    assert np.nansum(new.counts("m", 60.0, 20, START + 1260)) > 0
    new.restore(saved)
    fresh = History(tiers=((1.0, 60), (10.0, 60), (60.0, 100)))
    fresh.add_many("m", [(START + 3 * at, 2.0) for at in range(400)])
    for history in (new, fresh):
        history.add("m", START + 1210, 5.0)
    for kind in ("sum", "count", "min", "max", "mean"):
        # So far back only the coarse tier reaches; what the fine ones had kept are the last ten minutes.
        made, wanted = (history.values("m", 60.0, 20, START + 1260, kind)[-9:] for history in (new, fresh))
        assert np.array_equal(made, wanted, equal_nan=True)
    with pytest.raises(InvalidValue):
        old.restore(new.snapshot())
