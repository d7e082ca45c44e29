"""How many requests come in each step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Tuple

import numpy as np

from balance.errors import InvalidValue
from balance.types import check_number


@dataclass(frozen=True, slots=True)
class Demand:
    """Requests a second, step by step.

    Attributes
    ----------
    rates : tuple of float
        Requests a second in each step, none negative.
    step_s : float
        Length of a step.

    Examples
    --------
    >>> Demand.of_counts([60, 120], every_s=60.0, step_s=30.0).rates
    (1.0, 1.0, 2.0, 2.0)
    >>> Demand((1.0, 3.0), 15.0).scaled_to(10.0, service_s=0.5).rates
    (10.0, 30.0)
    """

    rates: Tuple[float, ...]
    step_s: float = 15.0

    def __post_init__(self) -> None:
        check_number("step_s", self.step_s, minimum=1e-3)
        if not self.rates:
            raise InvalidValue("rates", "none", "one for each step, at least one")
        for rate in self.rates:
            check_number("rates", rate, minimum=0)

    @classmethod
    def of_counts(cls, counts: Iterable[float], *, every_s: float = 60.0, step_s: float = 15.0) -> Demand:
        """Return the demand of counts for intervals, each spread evenly over the steps in it."""
        given = [check_number("counts", count, minimum=0) for count in counts]
        times = round(check_number("every_s", every_s, minimum=1e-3) / check_number("step_s", step_s, minimum=1e-3))
        if times < 1 or abs(times * step_s - every_s) > 1e-6:
            raise InvalidValue("step_s", step_s, f"a whole part of the {every_s:g} s of an interval")
        return cls(tuple(np.repeat(np.array(given, dtype=float) / every_s, times).tolist()), step_s)

    def scaled_to(self, load: float, service_s: float) -> Demand:
        """Return the same shape with a mean of so many replicas' worth of work."""
        mean = sum(self.rates) / len(self.rates)
        if mean <= 0:
            raise InvalidValue("rates", "all zero", "some requests, so that they can be scaled")
        factor = load / service_s / mean
        return Demand(tuple(rate * factor for rate in self.rates), self.step_s)
