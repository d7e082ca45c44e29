"""When work arrives: endless sequences of moments, made from a seeded generator.

Each function returns an `Arrivals`: given a numpy generator, it yields moments in seconds that never
decrease.  The same generator state gives the same moments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import TYPE_CHECKING

from balance.errors import InvalidValue
from balance.types import check_number

if TYPE_CHECKING:
    from numpy.random import Generator

Arrivals = Callable[["Generator"], Iterator[float]]

_DRAWN = 1024  # gaps drawn at once: one call of numpy costs as much as twenty draws


def at_once(at_s: float = 0.0) -> Arrivals:
    """Return arrivals that all come at `at_s`: a backlog.

    Examples
    --------
    >>> from itertools import islice
    >>> from numpy.random import default_rng
    >>> list(islice(at_once(3.0)(default_rng(1)), 2))
    [3.0, 3.0]
    """
    moment = check_number("at_s", at_s, minimum=0, what="number of seconds")
    return lambda _rng: repeat(moment)


def poisson(rate_per_s: float) -> Arrivals:
    """Return arrivals that know nothing of each other: exponential gaps with mean ``1 / rate_per_s`` seconds.

    Examples
    --------
    >>> from itertools import islice
    >>> from numpy.random import default_rng
    >>> moments = list(islice(poisson(2.0)(default_rng(1)), 10_000))
    >>> 4_800 < moments[-1] < 5_200
    True
    """
    _positive("rate_per_s", rate_per_s)

    def moments(rng: Generator) -> Iterator[float]:
        now = 0.0
        while True:
            for gap in rng.exponential(1 / rate_per_s, _DRAWN).tolist():
                now += gap
                yield now

    return moments


def bursty(rate_per_s: float, *, burst_factor: float = 10.0, burst_s: float = 30.0, calm_s: float = 270.0) -> Arrivals:
    """Return arrivals in bursts: a Poisson process that switches between a high and a low rate.

    A Markov-modulated Poisson process with two states (W. Fischer & K. Meier-Hellstern, "The
    Markov-modulated Poisson process (MMPP) cookbook", Performance Evaluation 18, 1993).

    Parameters
    ----------
    rate_per_s : float
        The mean rate over bursts and calms.
    burst_factor : float
        How many times the calm rate a burst has.
    burst_s, calm_s : float
        The mean length of a burst and of a calm, in seconds (both exponential).
    """
    for name, value in (("rate_per_s", rate_per_s), ("burst_s", burst_s), ("calm_s", calm_s)):
        _positive(name, value)
    check_number("burst_factor", burst_factor, minimum=1)
    calm_rate = rate_per_s * (burst_s + calm_s) / (burst_factor * burst_s + calm_s)

    def moments(rng: Generator) -> Iterator[float]:
        now, bursting = 0.0, False
        while True:
            rate = calm_rate * (burst_factor if bursting else 1.0)
            end = now + rng.exponential(burst_s if bursting else calm_s)
            while (now := now + rng.exponential(1 / rate)) < end:
                yield now
            now, bursting = end, not bursting  # the exponential gap has no memory: it may begin anew here

    return moments


def diurnal(rate_per_s: float, *, swing: float = 0.8, period_s: float = 86_400.0, peak_s: float = 50_400.0) -> Arrivals:
    """Return arrivals with a daily rhythm: a Poisson process whose rate is a sine wave.

    By thinning (P. Lewis & G. Shedler, "Simulation of nonhomogeneous Poisson processes by thinning",
    Naval Research Logistics 26, 1979).

    Parameters
    ----------
    rate_per_s : float
        The mean rate over a period.
    swing : float
        How far the rate swings around its mean, 0 to 1.
    period_s, peak_s : float
        The length of a period and the moment in it at which the rate is highest, in seconds.
    """
    _positive("rate_per_s", rate_per_s)
    _positive("period_s", period_s)
    check_number("swing", swing, minimum=0, maximum=1)

    def moments(rng: Generator) -> Iterator[float]:
        now = 0.0
        while True:
            now += rng.exponential(1 / (rate_per_s * (1 + swing)))
            wave = 1 + swing * math.cos(2 * math.pi * (now - peak_s) / period_s)
            if rng.random() * (1 + swing) < wave:
                yield now

    return moments


def _positive(name: str, value: float) -> None:
    if check_number(name, value, minimum=0) == 0:
        raise InvalidValue(name, value, "more than 0")
