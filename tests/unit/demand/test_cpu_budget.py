"""The budget of CPU time that forecasts have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balance.clock import FakeClock
from balance.errors import InvalidValue
from balance.prediction.demand import CpuBudget


@given(
    st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.0, 3.0)), max_size=40),
    st.floats(0.05, 4.0),
    st.floats(0.0, 2.0),
)
def test_work_takes_no_more_than_its_share(steps: list[tuple[float, float]], cores: float, burst_s: float) -> None:
    """Whoever waits as told has spent at most what was earned, the credit, and the last piece of work."""
    clock = FakeClock()
    budget = CpuBudget(cores, burst_s=burst_s, clock=clock)
    began, spent = clock.now(), 0.0
    for pause_s, cpu_s in steps:
        clock.advance(pause_s + budget.wait_s())
        assert spent <= cores * (clock.now() - began) + burst_s + 1e-6
        budget.spend(cpu_s)
        spent += cpu_s
    assert budget.spent_s == pytest.approx(spent)


def test_an_idle_budget_gathers_no_more_than_its_credit() -> None:
    """After a night without work, the morning's does not take the whole machine."""
    clock = FakeClock()
    budget = CpuBudget(1.0, burst_s=2.0, clock=clock)
    clock.advance(3600.0)
    budget.spend(5.0)
    assert budget.wait_s() == pytest.approx(3.0)


def test_a_budget_of_nothing_is_a_mistake() -> None:
    """With no cores nothing would ever be forecast, silently."""
    with pytest.raises(InvalidValue):
        CpuBudget(0.0, clock=FakeClock())
