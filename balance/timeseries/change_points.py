"""Find the moments at which the level of a series changed, and say how sure that is.

1. Values that depend on the ones before wander without any change.  So the dependence is taken out first:
   its size is estimated from the medians of squared differences one and two steps apart, which neither a change of
   level nor an outlier moves, and each value is set against that part of the one before it (S. Chakar et al.,
   "A robust approach for estimating change-points in the mean of an AR(1) process", Bernoulli 23, 2017).
2. What is left is replaced by its ranks, so that no single value, however wild, can look like a level
   (A. Lung-Yut-Fong et al., "Homogeneity and change-point detection tests for multivariate data using rank
   statistics", 2011), and cut where that pays (PELT; R. Killick, P. Fearnhead, I. Eckley, "Optimal detection of
   changepoints with a linear computational cost", JASA 107, 2012).
3. Each cut is tested by the ranks on its two sides.  Its place was chosen to be the best one, which the p-value
   accounts for (R. Miller, D. Siegmund, "Maximally selected chi square statistics", Biometrics 38, 1982); the
   weakest cut is dropped until all that are left are significant.

A slow trend is no change of level, and a random walk has none; take a trend or a season out before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Dict

import numpy as np
from numpy.typing import NDArray

from balance.timeseries.series import LARGEST, LONGEST, Array
from balance.types import check_number

#: The shortest stretch that is called a level, in steps.
SHORTEST = 5
#: Cost of a cut in units of log n: cuts are proposed generously and tested afterwards.
_PENALTY = 2.0
#: Differences of more than so many times the usual one are drawn in: 2.5 standard deviations of a normal one.
_DRAWN_IN = 3.7
#: Differences of less than this part of the series' range are no movement.
_TREMBLE = 1e-3
#: Fewer values than this carry no change.
ENOUGH = 4 * SHORTEST


@dataclass(frozen=True, slots=True)
class Change:
    """One change of level.

    Attributes
    ----------
    index : int
        The first value of the new level.
    before, after : float
        The median of the stretch before and after, up to the neighbouring changes.
    p_value : float
        How likely so large a difference would be anywhere in the two stretches without a change.
    """

    index: int
    before: float
    after: float
    p_value: float

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def find_changes(values: Sequence[float] | Array, significance: float = 0.01) -> list[Change]:
    """Return the changes of level, in their order.

    Parameters
    ----------
    values : sequence of float, shape (n,)
        Equally spaced, oldest first; NaN, infinite and absurd ones are left out.  The newest 4032 are looked at.
    significance : float, default 0.01
        Between 0 and 1: the largest p-value that a change may have.

    Notes
    -----
    O(n) to O(n^2) with small constants; 15 ms for 1000 values.  Fewer than 20 values have no change.  At the default
    significance of 0.01 a change was found in 0 to 2 % of 1,000 series without one (normal, heavy-tailed, counts,
    first-order dependence up to 0.8; 40 to 600 values), and in 9 to 15 % of random walks, which no finite series can
    be told from for sure; a shift by two standard deviations in 98 % and more of 150 independent values.

    Examples
    --------
    >>> level = [10.0, 11.0, 9.0, 10.0, 12.0] * 8
    >>> level[7] = 5000.0
    >>> [(change.index, change.before, change.after) for change in find_changes(level + [v + 20 for v in level])]
    [(40, 10.0, 30.0)]
    """
    limit = check_number("significance", significance, minimum=0, maximum=1)
    raw = np.asarray(values, dtype=float)
    offset = max(0, len(raw) - LONGEST)
    raw = raw[offset:]
    places = np.flatnonzero(np.isfinite(raw) & (np.abs(raw) <= LARGEST))
    known = raw[places]
    if len(known) < ENOUGH or np.ptp(known) == 0:
        return []
    ranks = _ranks(_whitened(known))
    cuts = _cut(ranks)
    tested = _significant(ranks, cuts, limit)
    bounds = [0, *(cut for cut, _ in tested), len(known)]
    return [
        Change(
            index=int(places[cut]) + offset,
            before=float(np.median(known[bounds[number] : cut])),
            after=float(np.median(known[cut : bounds[number + 2]])),
            p_value=p_value,
        )
        for number, (cut, p_value) in enumerate(tested)
    ]


def dependence(values: Array) -> float:
    """Return how much of a value is the one before it, 0 to 1, whatever levels and outliers there are.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> noise = rng.normal(size=2000)
    >>> dependence(noise + 50 * (np.arange(2000) > 900)) < 0.1, dependence(np.cumsum(noise)) > 0.9
    (True, True)
    """
    if len(values) < 3:
        return 0.0
    near, far = (_scale(values[lag:] - values[:-lag]) for lag in (1, 2))
    # How values tremble that hardly move, set against where the series goes, matters to nobody.
    low, high = np.quantile(values, [0.02, 0.98])
    floor = (_TREMBLE * float(high - low)) ** 2
    return min(1.0, max(0.0, (far + floor) / (near + floor) - 1.0)) if near + floor > 0 else 0.0


def _scale(differences: Array) -> float:
    """Return the mean square, outliers drawn in: as robust as the median of squares, and half as noisy."""
    size = np.abs(differences)
    return float((np.minimum(size, _DRAWN_IN * np.median(size)) ** 2).mean())


def _whitened(values: Array) -> Array:
    # Too little taken out makes changes out of wandering, too much only hides small ones: one standard error more,
    # and where a random walk can't be ruled out all of it.
    share, error = dependence(values), len(values) ** -0.5
    share = 1.0 if share + 2.5 * error >= 1.0 else share + error
    before = np.concatenate([values[:1], values[:-1]])
    # The first value has none before it: the level itself stands in.
    before[0] = np.median(values[:SHORTEST])
    return values - share * before


def _ranks(values: Array) -> Array:
    """Return the ranks, equal values sharing theirs, with mean 0 and variance 1 (zeros for a constant)."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2.0)[inverse]
    centred = ranks - ranks.mean()
    spread = centred.std()
    return np.asarray(centred / spread if spread > 0 else np.zeros(len(values)))


def _cut(ranks: Array) -> list[int]:
    """Return where PELT cuts, under the cost of squares about each stretch's mean."""
    n = len(ranks)
    sums = np.concatenate([[0.0], np.cumsum(ranks)])
    squares = np.concatenate([[0.0], np.cumsum(ranks * ranks)])
    penalty = _PENALTY * math.log(n)
    best = np.full(n + 1, np.inf)
    best[0] = -penalty
    last = np.zeros(n + 1, dtype=np.int64)
    open_cuts: NDArray[np.int64] = np.array([0])
    for end in range(SHORTEST, n + 1):
        start = end - SHORTEST
        if start >= SHORTEST:
            open_cuts = np.append(open_cuts, start)
        total = sums[end] - sums[open_cuts]
        cost = best[open_cuts] + (squares[end] - squares[open_cuts]) - total * total / (end - open_cuts)
        chosen = int(np.argmin(cost))
        best[end] = cost[chosen] + penalty
        last[end] = open_cuts[chosen]
        open_cuts = open_cuts[cost <= best[end]]
    cuts = []
    end = n
    while (end := int(last[end])) > 0:
        cuts.append(end)
    return cuts[::-1]


def _significant(ranks: Array, cuts: list[int], limit: float) -> list[tuple[int, float]]:
    """Drop the weakest cut until all are significant; return (cut, p-value)."""
    kept = list(cuts)
    while kept:
        bounds = [0, *kept, len(ranks)]
        tested = [_p_value(ranks[a:c], b - a) for a, b, c in zip(bounds, bounds[1:], bounds[2:], strict=False)]
        weakest = int(np.argmax(tested))
        if tested[weakest] <= limit:
            return list(zip(kept, tested, strict=True))
        del kept[weakest]
    return []


def _p_value(stretch: Array, cut: int) -> float:
    """Return the p-value of the largest difference of mean ranks at any place of `stretch`, as seen at `cut`."""
    n = len(stretch)
    centred = _ranks(stretch)
    levels = np.repeat([centred[:cut].mean(), centred[cut:].mean()], [cut, n - cut])
    left = centred - levels
    # What dependence is left widens the test.
    whole = float((left * left).sum())
    rest = max(0.0, float((left[1:] * left[:-1]).sum()) / whole) if whole > 0 else 0.0
    z = abs(float(centred[:cut].sum())) * math.sqrt((n - 1) / (cut * (n - cut)) * (1.0 - rest) / (1.0 + rest))
    if z < 1.0:
        return 1.0
    edge = SHORTEST / n
    density = NormalDist().pdf(z)
    p_value = 4.0 * density / z + density * (z - 1.0 / z) * 2.0 * math.log((1.0 - edge) / edge)
    return min(1.0, p_value)
