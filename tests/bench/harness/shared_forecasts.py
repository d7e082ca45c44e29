"""What is expected of demand is the same for every coverage: who runs many policies together computes it once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from balance.planning.scaling import Expectations, Observation, ScalingPolicy


@contextmanager
def shared_forecasts() -> Iterator[None]:
    """Have `Expectations.after` answer what was asked just before with the same record, not with another like it.

    Records are compared by identity, so that policies share from the same first state on, step by step
    (`balance.simulation.scaling.simulate_all`); whoever sees something else gets his own.  Only for policies that
    differ in nothing that `Expectations` reads (its bins, window and season).
    """
    original = Expectations.after
    last: list[tuple[Expectations, tuple[float, ...], Expectations]] = []

    def after(self: Expectations, rate: float, end: float, seen: Observation, policy: ScalingPolicy) -> Expectations:
        if seen.forecast is not None:
            return original(self, rate, end, seen, policy)
        asked = (rate, end, seen.cold_start_s)
        if not last or last[0][0] is not self or last[0][1] != asked:
            last[:] = [(self, asked, original(self, rate, end, seen, policy))]
        return last[0][2]

    with mock.patch.object(Expectations, "after", after):
        yield
