"""How far above a centre the bound has to lie: adaptive conformal inference.

I. Gibbs, E. Candès, "Adaptive Conformal Inference Under Distribution Shift", NeurIPS 2021.  After every
window the error level moves, ``alpha += adapt * (target - missed)``; the bound is the (1 - alpha) quantile of
the last scores, a score being how many scales the truth lay above the centre.  Whatever the arrivals do, the
share of windows above the bound converges to the target (their proposition 4.1: the distance falls as
1 / (adapt * windows)).

Two departures, both where the theory asks for an infinite bound: before there are scores enough, the
bound is the larger of the normal quantile and the largest score; at alpha <= 0 it is the largest
score and half again, which grows with every further miss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Optional, Tuple

from balance.planning.policy import PlanPolicy
from balance.planning.record import Record

#: Weight of the newest window in the running means: the last twenty or so count.
_NEWEST = 0.05


@dataclass(frozen=True, slots=True)
class Guess(Record):
    """A centre, its scale, and the bound that was derived from them, in requests within a window."""

    centre: float
    scale: float
    bound: float


@dataclass(frozen=True, slots=True)
class Calibration(Record):
    """What the past windows taught about one way of guessing.

    Attributes
    ----------
    alpha : float, optional
        The adaptive error level; None before the first window.
    scores : tuple of float
        The last scores, oldest first.
    windows, covered : int
        How many windows passed, and in how many the bound held.
    loss : float
        Running mean of the pinball loss of the bound at the target coverage, in requests.
    error : float
        Running mean of the distance between centre and truth, in requests.

    Examples
    --------
    >>> policy = PlanPolicy()
    >>> fresh = Calibration()
    >>> guess = fresh.guess(100.0, 10.0, policy)
    >>> round(guess.bound, 1)
    112.8
    >>> taught = fresh.after(guess, 130.0, policy)
    >>> taught.covered, round(taught.guess(100.0, 10.0, policy).bound, 1)
    (0, 130.0)
    """

    alpha: Optional[float] = None
    scores: Tuple[float, ...] = ()
    windows: int = 0
    covered: int = 0
    loss: float = 0.0
    error: float = 0.0

    def guess(self, centre: float, scale: float, policy: PlanPolicy) -> Guess:
        """Return the guess whose bound shall hold in ``policy.coverage`` of the windows."""
        return Guess(centre, scale, max(0.0, centre + self._reach(policy) * scale))

    def after(self, guess: Guess, actual: float, policy: PlanPolicy) -> Calibration:
        """Return what is known after a window in which `actual` requests arrived."""
        missed = actual > guess.bound
        target = 1.0 - policy.coverage
        alpha = target if self.alpha is None else self.alpha
        over = actual - guess.bound
        loss = policy.coverage * over if missed else -target * over
        share = max(_NEWEST, 1.0 / (self.windows + 1))
        return Calibration(
            alpha=alpha + policy.adapt * (target - missed),
            scores=(*self.scores, (actual - guess.centre) / guess.scale)[-policy.memory_of_scores :],
            windows=self.windows + 1,
            covered=self.covered + (not missed),
            loss=self.loss + share * (loss - self.loss),
            error=self.error + share * (abs(actual - guess.centre) - self.error),
        )

    def _reach(self, policy: PlanPolicy) -> float:
        usual = NormalDist().inv_cdf(policy.coverage)
        if not self.scores:
            return usual
        alpha = 1.0 - policy.coverage if self.alpha is None else self.alpha
        rank = math.ceil((len(self.scores) + 1) * (1.0 - alpha))
        largest = max(self.scores)
        if alpha <= 0.0:
            return max(usual, 1.5 * largest)
        if rank > len(self.scores):
            return max(usual, largest)
        return sorted(self.scores)[max(1, rank) - 1]


#: What is known before the first window.
FRESH = Calibration()
