"""How many scales above its centre a bound has to lie: split conformal prediction on a sliding window.

The scores are how many scales the truth lay above the centre; the bound takes their quantile of the level that
was asked for (V. Vovk et al., "Algorithmic Learning in a Random World", 2005; sliding windows: R. J. Tibshirani
et al., NeurIPS 2019).  Adaptive conformal inference (I. Gibbs, E. Candès, NeurIPS 2021), which moves the level
after each miss, was tried and costs more: misses come in runs, since windows overlap, and each run would inflate
the bound for hours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Optional, Tuple

from balance.planning.record import Record

_FEWEST = 20


@dataclass(frozen=True, slots=True)
class Margin(Record):
    """The scores of one way of guessing, and the reach that follows from them.

    Attributes
    ----------
    scores : tuple of float
        The last scores, oldest first.
    reach : float, optional
        Scales from centre to bound; None before any score.
    judged, covered : int
        Guesses that were judged, and how many of their bounds held.

    Examples
    --------
    >>> margin = Margin().after([0.5] * 99 + [4.0], coverage=0.95, kept=200)
    >>> margin.reach, round(Margin().at(0.9), 3)
    (0.5, 1.282)

    No news before the first score changes nothing:

    >>> round(Margin().after([], coverage=0.9, kept=200).at(0.9), 3)
    1.282
    """

    scores: Tuple[float, ...] = ()
    reach: Optional[float] = None
    judged: int = 0
    covered: int = 0

    def at(self, coverage: float) -> float:
        """Return the reach, the normal quantile before there are scores."""
        return NormalDist().inv_cdf(coverage) if self.reach is None else self.reach

    def after(self, scores: list[float], coverage: float, kept: int) -> Margin:
        """Return the margin with more scores."""
        known = (*self.scores, *scores)[-kept:]
        usual = NormalDist().inv_cdf(coverage)
        if len(known) < _FEWEST:  # the normal quantile, unless something larger was seen
            reach = max([usual, *known])
        else:
            rank = math.ceil((len(known) + 1) * coverage)
            ranked = sorted(known)
            reach = ranked[min(rank, len(ranked)) - 1]
        before = self.at(coverage)
        return Margin(
            known,
            reach,
            self.judged + len(scores),
            self.covered + sum(score <= before for score in scores),
        )
