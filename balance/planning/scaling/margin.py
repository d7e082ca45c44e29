"""How many scales above its centre a bound has to lie: split conformal prediction on a sliding window.

The scores are how many scales the truth lay above the centre; the bound takes their quantile of the level that
was asked for (V. Vovk et al., "Algorithmic Learning in a Random World", 2005; sliding windows: R. J. Tibshirani
et al., NeurIPS 2019).  Beyond the largest score the tail goes on exponentially, by the mean excess of the highest
tenth (peaks over a threshold; J. Pickands 1975).  Adaptive conformal inference (I. Gibbs, E. Candès, NeurIPS
2021), which moves the level after each miss, was tried and costs more: misses come in runs, since windows overlap,
and each run would inflate the bound for hours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Tuple

from balance.planning.record import Record

_FEWEST = 20
#: The highest one in so many say how the tail goes on.
_TAIL = 10


@dataclass(frozen=True, slots=True)
class Margin(Record):
    """The scores of one way of guessing, and the reach that follows from them.

    Attributes
    ----------
    scores : tuple of float
        The last scores, oldest first.

    Examples
    --------
    >>> Margin().after([0.5] * 99 + [4.0], kept=200).reach(0.95), round(Margin().reach(0.9), 3)
    (0.5, 1.282)
    """

    scores: Tuple[float, ...] = ()

    def reach(self, coverage: float) -> float:
        """Return the scales from centre to bound; the normal quantile, or what was seen above it, at few scores."""
        if len(self.scores) < _FEWEST:
            return max([NormalDist().inv_cdf(coverage), *self.scores])
        ranked, count = sorted(self.scores), len(self.scores)
        rank = math.ceil((count + 1) * coverage)
        if rank <= count:
            return ranked[rank - 1]
        tail = ranked[-(count // _TAIL) :]
        beyond = sum(tail) / len(tail) - ranked[-(count // _TAIL) - 1]
        return ranked[-1] + beyond * math.log(1.0 / ((count + 1) * (1.0 - coverage)))

    def after(self, scores: list[float], kept: int) -> Margin:
        """Return the margin with more scores."""
        return Margin((*self.scores, *scores)[-kept:])
