"""How long work takes, and what its submitter says about it: endless sequences from a seeded generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import TYPE_CHECKING

from balance.errors import InvalidValue
from balance.types import check_number

if TYPE_CHECKING:
    from numpy.random import Generator

Lengths = Callable[["Generator"], Iterator[float]]
Hint = Callable[["Generator", float], "float | None"]

_DRAWN = 1024


def constant(run_s: float) -> Lengths:
    """Return run times that are all `run_s` seconds."""
    seconds = check_number("run_s", run_s, minimum=0, what="number of seconds")
    return lambda _rng: repeat(seconds)


def log_normal(median_s: float, sigma: float = 1.0) -> Lengths:
    """Return log-normal run times, as measured job lengths roughly are.

    Parameters
    ----------
    median_s : float
        The run time that half of them exceed, in seconds.
    sigma : float
        The deviation of its logarithm: with 1, one in twenty runs for more than five times the median.

    Examples
    --------
    >>> from itertools import islice
    >>> from numpy.random import default_rng
    >>> import statistics
    >>> 9.5 < statistics.median(islice(log_normal(10.0)(default_rng(1)), 10_000)) < 10.5
    True
    """
    if check_number("median_s", median_s, minimum=0) == 0:
        raise InvalidValue("median_s", median_s, "more than 0 seconds")
    check_number("sigma", sigma, minimum=0)

    def draws(rng: Generator) -> Iterator[float]:
        while True:
            yield from rng.lognormal(math.log(median_s), sigma, _DRAWN).tolist()

    return draws


def sampled(values: Sequence[float]) -> Lengths:
    """Return run times drawn, with replacement, from measured ones (a column of a trace), in seconds."""
    if not len(values):
        raise InvalidValue("values", values, "at least one run time")
    measured = [check_number("run_s", value, minimum=0, what="number of seconds") for value in values]

    def draws(rng: Generator) -> Iterator[float]:
        while True:
            for index in rng.integers(0, len(measured), _DRAWN).tolist():
                yield measured[index]

    return draws


def no_hint(_rng: Generator, _run_s: float) -> float | None:
    """Say nothing about the run time."""
    return None


def true_hint(_rng: Generator, run_s: float) -> float | None:
    """Say the truth about the run time."""
    return run_s


def wrong_hint(sigma: float = 1.0, bias: float = 1.0) -> Hint:
    """Return hints that are `bias` times the truth, times a log-normal error of deviation `sigma`.

    Examples
    --------
    >>> from numpy.random import default_rng
    >>> wrong_hint(sigma=0.0, bias=3.0)(default_rng(1), 10.0)
    30.0
    """
    check_number("sigma", sigma, minimum=0)
    check_number("bias", bias, minimum=0)
    return lambda rng, run_s: run_s * bias * float(rng.lognormal(0.0, sigma))
