"""The guard: a forecast that does not pay is demoted within a bounded time, and comes back when it pays."""

from __future__ import annotations

import pytest

from balance.planning.scaling.fleet import Fleet
from balance.planning.scaling.guard import Guard, Shadow

BIN_S, SERVICE_S, PRICE, PATIENCE = 10.0, 0.1, 9.0, 5.0
RATE = 100.0
UNIT = RATE * SERVICE_S * 40.0  # the work of a window of four bins


def live(guard: Guard, forecast: int, reactive: int, bins: int, rate: float = RATE) -> tuple[Guard, list[str]]:
    """Let both fleets, always of these sizes, live through bins of steady demand."""
    modes = []
    for index in range(bins):
        now = (index + 1) * BIN_S
        shadows = [
            Shadow(Fleet(size), one.queued, one.replica_s, one.missed).after(rate * BIN_S, now, BIN_S, SERVICE_S, 10.0)
            for one, size in ((guard.forecast, forecast), (guard.reactive, reactive))
        ]
        guard = guard.after(*shadows, service_s=SERVICE_S, price=PRICE, unit=UNIT, patience=PATIENCE)
        modes.append(guard.mode)
    return guard, modes


def test_a_forecast_that_misses_is_demoted_within_its_patience():
    """Seven replicas for ten replicas' worth of work: demoted after the queue's grace and five windows of misses."""
    guard, modes = live(Guard(), forecast=7, reactive=11, bins=60)
    assert modes[-1] == "reactive"
    assert modes.index("reactive") <= 4 + int(PATIENCE * 4) + 4
    assert guard.switches == 1


def test_a_forecast_that_wastes_is_demoted_too():
    """Ten times the replicas without a miss less: the price of a miss says how long that is borne."""
    _, modes = live(Guard(), forecast=110, reactive=11, bins=200)
    wasted_each_bin = (110 - 11) * BIN_S / (PRICE * UNIT)
    assert modes.index("reactive") == pytest.approx(PATIENCE / wasted_each_bin, abs=2)


def test_a_forecast_that_pays_again_leads_again():
    """However long it was behind: the score is bounded, so that coming back takes no longer than twice the patience."""
    demoted, _ = live(Guard(), forecast=7, reactive=11, bins=500)
    relieved = Guard(demoted.mode, demoted.behind, Shadow(), demoted.reactive)
    back, modes = live(relieved, forecast=11, reactive=7, bins=100)
    assert back.mode == "forecast"
    assert modes.index("forecast") <= 4 + int(2 * PATIENCE * 4) + 8


def test_equals_do_not_flap():
    """Two that do the same leave the lead where it is."""
    for mode in ("forecast", "reactive"):
        guard, modes = live(Guard(mode=mode), forecast=11, reactive=11, bins=200)
        assert set(modes) == {mode}
        assert guard.switches == 0


def test_long_success_does_not_buy_long_failure():
    """What was gained while it paid is bounded too: a forecast that breaks is demoted as soon as ever."""
    trusted, _ = live(Guard(), forecast=11, reactive=60, bins=2000)
    broken = Guard(trusted.mode, trusted.behind, Shadow(), Shadow())
    _, modes = live(broken, forecast=7, reactive=11, bins=100)
    assert modes.index("reactive") <= 4 + int(2 * PATIENCE * 4) + 8
