"""The arrivals of one model, counted in bins: the last hour or so finely, the last season coarsely."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from balance.planning.record import Record

#: Lengths, in bins, of the windows whose means describe how demand moves.
WINDOWS = (1, 2, 4, 8, 16, 32, 64, 256)
#: A season is kept in so many parts.
PARTS = 288
_KEPT = 512
_PICK = np.array(WINDOWS) - 1
_LENGTHS = np.array(WINDOWS, dtype=float)


@dataclass(frozen=True, slots=True)
class Rates(Record):
    """Requests a second in each bin, newest last.

    Attributes
    ----------
    count : int
        Bins counted so far: the index that the next bin gets.
    recent : tuple of float
        The last 512 bins at most.
    season : tuple of float
        Means of longer parts, oldest first: one season and two parts at most.
    part_sum, part_bins : float, int
        The part that is not full yet.
    usual : float
        Mean over the last season or so, exponentially forgetting.

    Examples
    --------
    >>> rates = Rates()
    >>> for rate in (2.0, 2.0, 4.0, 8.0):
    ...     rates = rates.after(rate, season_bins=5760)
    >>> [float(mean) for mean in rates.means()[:3]], rates.mean_of(1, 3)
    ([8.0, 6.0, 4.0], 3.0)
    """

    count: int = 0
    recent: Tuple[float, ...] = ()
    season: Tuple[float, ...] = ()
    part_sum: float = 0.0
    part_bins: int = 0
    usual: float = 0.0

    def after(self, rate: float, season_bins: int) -> Rates:
        """Return the rates with one more bin."""
        length = max(1, season_bins // PARTS)
        part_sum, part_bins, season = self.part_sum + rate, self.part_bins + 1, self.season
        if part_bins >= length:
            season = (*season, part_sum / part_bins)[-(season_bins // length + 2) :]
            part_sum, part_bins = 0.0, 0
        return Rates(
            self.count + 1,
            (*self.recent, rate)[-_KEPT:],
            season,
            part_sum,
            part_bins,
            self.usual + (rate - self.usual) / min(self.count + 1, season_bins),
        )

    def means(self) -> NDArray[np.float64]:
        """Return the mean rate of the last 1, 2, 4, ... bins, or of as many as there are; there must be one."""
        backwards = np.cumsum(self.recent[: -WINDOWS[-1] - 1 : -1])
        known = len(backwards)
        if known >= WINDOWS[-1]:
            return backwards[_PICK] / _LENGTHS  # type: ignore[no-any-return]  # numpy's stubs lose the type here
        pick = np.minimum(_PICK, known - 1)
        return backwards[pick] / (pick + 1.0)  # type: ignore[no-any-return]

    def mean_of(self, first: int, last: int) -> Optional[float]:
        """Return the mean rate of the bins `first` up to, not including, `last`; None where they are not known."""
        oldest = self.count - len(self.recent)
        if first < oldest or last > self.count or last <= first:
            return None
        part = self.recent[first - oldest : last - oldest]
        return sum(part) / len(part)

    def a_season_ago(self, ahead_bins: float, season_bins: int) -> Optional[float]:
        """Return the rate around the moment that lies one season before `ahead_bins` bins from now."""
        length = max(1, season_bins // PARTS)
        back = (season_bins - ahead_bins - self.part_bins) / length  # parts before the end of the last full one
        place = len(self.season) - back - 0.5
        low = int(place // 1)
        if low < 0 or low + 1 >= len(self.season):
            return None
        share = place - low
        return self.season[low] * (1.0 - share) + self.season[low + 1] * share
