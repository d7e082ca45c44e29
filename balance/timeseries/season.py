"""Find the seasons of a series: the lags at which it repeats itself, where the repeating is significant.

The autocorrelation is taken of differences, in which a random walk has no peaks at all, with outliers
clipped so that one spike does not look like a pattern.  Differences drown a slow season in noise, so they
are taken of ever longer block sums until a season shows.  A lag is a season where its autocorrelation is a
local maximum well above chance and the series holds three of it; of neighbours that repeat as well, the one
with the most divisors.

Days come in weeks: where a multiple of the season repeats better than its neighbour multiples do, in what
is left after taking the season out, it is a second season.

A false season costs little, because seasonal methods still have to win their backtest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from balance.timeseries.series import Array

#: A shorter cycle is the business of an autoregression's first lags.
SHORTEST = 4
#: Block lengths whose sums are differenced, in steps.
_BLOCKS = (1, 4, 16)
#: A block may be at most this share of the season it shows: longer ones blur it.
_BLOCK_SHARE = 1 / 6
#: Standard errors above zero that a peak needs: with hundreds of lags tried, 2 would find seasons in noise.
_SIGNIFICANT = 4.0
#: The least autocorrelation that is worth modelling, however long the series.
_WORTHWHILE = 0.2
#: A peak this close to the highest stands for it: the multiples of a season repeat as well as it does.
_NEAR = 0.85
#: The peak is looked for within this part of its lag on both sides.
_SLOPE = 0.15
#: By how much a multiple has to beat its neighbours, and in standard errors.
_LEAD, _LEAD_SIGNIFICANT = 0.08, 2.0


def find_seasons(values: Array, cycles: int = 3) -> tuple[int, ...]:
    """Return up to two season lengths in steps, shortest first; empty where none is significant.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Without gaps.
    cycles : int, default 3
        How often a season must fit into the series.

    Notes
    -----
    O(n log n); about 0.3 ms for 1000 values.

    Examples
    --------
    >>> hours = np.arange(24 * 14)
    >>> find_seasons(10 + np.sin(2 * np.pi * hours / 24))
    (24,)
    """
    longest = len(values) // cycles
    for block in _BLOCKS:
        season = _season_at(values, block, longest)
        if season:
            longer = _longer_season(values, season, longest)
            return (season, longer) if longer else (season,)
    return ()


def _season_at(values: Array, block: int, longest: int) -> int | None:
    """Return the season that the differences of sums over `block` steps show, if any."""
    shortest = max(SHORTEST, round(block / _BLOCK_SHARE))
    if longest < shortest:
        return None
    sums = np.convolve(values, np.ones(block), "valid") if block > 1 else values
    acf = _autocorrelation(_clipped(sums[block:] - sums[:-block]), longest + 1)
    limit = max(_WORTHWHILE, _SIGNIFICANT * np.sqrt(block / len(values)))
    peaks = _peaks(acf, shortest, longest)
    peaks = peaks[acf[peaks] > limit]
    if not peaks.size:
        return None
    return _sharpened(values, int(peaks[acf[peaks] >= _NEAR * acf[peaks].max()].min()), longest)


def _sharpened(values: Array, season: int, longest: int) -> int:
    """Return the lag near `season` that repeats best over all its multiples.

    Noise puts small peaks on the slopes of a broad one.  The slow part is taken out by a running mean over a season,
    which adds less noise than differences do, and each multiple shows an error of the length that many times enlarged.
    """
    near = np.arange(round(season * (1 - _SLOPE)), round(season * (1 + _SLOPE)) + 1)
    near = near[(near >= SHORTEST) & (near <= longest)]
    if len(near) < 2:
        return season
    slow = np.convolve(values, np.ones(season) / season, "valid")
    start = season // 2
    rest = values[start : start + len(slow)] - slow
    # Not by the median distance: most steps of a square wave are alike, up to rounding.
    rest = np.clip(rest, *np.quantile(rest, [0.01, 0.99]))
    multiples = max(1, (len(rest) * 2 // 3) // int(near.max()))
    acf = _autocorrelation(rest, multiples * int(near.max()))
    score = np.sum([acf[near * multiple] for multiple in range(1, multiples + 1)], axis=0)
    # Each autocorrelation is known to about 1 / sqrt(n) only.
    return roundest(near, score, multiples / np.sqrt(len(rest)))


def roundest(lags: NDArray[np.int64], score: Array, chance: float) -> int:
    """Return the lag with the most divisors among those next to the best that are as good but for `chance`.

    Examples
    --------
    >>> lags = np.array([286, 287, 288, 289])
    >>> roundest(lags, np.array([2.0, 2.4, 2.39, 2.1]), 0.05), roundest(lags, np.array([2.0, 2.4, 2.3, 2.1]), 0.05)
    (288, 287)
    """
    best = lags[int(np.argmax(score))]
    near = lags[(score >= score.max() - chance) & (np.abs(lags - best) <= max(1, 0.01 * best))]
    return int(max(near, key=lambda lag: (_divisors(int(lag)), -abs(lag - best))))


def _divisors(number: int) -> int:
    """Count the divisors of `number`: the seasons of clocks and calendars have many.

    288 steps of five minutes are likelier a day than 287 are something else.

    Examples
    --------
    >>> _divisors(288), _divisors(287)
    (18, 4)
    """
    return sum(number % divisor == 0 for divisor in range(1, number + 1))


def _longer_season(values: Array, season: int, longest: int) -> int | None:
    """Return the multiple of `season` that repeats better than its neighbour multiples, if one does."""
    multiples = np.arange(season, longest + season, season)
    if len(multiples) < 4:
        return None
    rest = _autocorrelation(_clipped(values[season:] - values[:-season]), int(multiples[-1]))
    at = rest[multiples]
    lead = at[1:-1] - np.maximum(at[:-2], at[2:])
    best = int(np.argmax(lead)) + 1
    margin = max(_LEAD, _LEAD_SIGNIFICANT / np.sqrt(len(values)))
    return int(multiples[best]) if lead[best - 1] > margin and at[best] > margin else None


def _peaks(acf: Array, shortest: int, longest: int) -> NDArray[np.int64]:
    lags = np.arange(shortest, longest + 1)
    return lags[(acf[lags] >= acf[lags - 1]) & (acf[lags] >= acf[lags + 1])]


def _clipped(differences: Array) -> Array:
    centred = differences - np.median(differences)
    spread = np.median(np.abs(centred))
    return np.clip(centred, -7.5 * spread, 7.5 * spread) if spread > 0 else centred


def _autocorrelation(x: Array, lags: int) -> Array:
    """Return the autocorrelation at lags 0 ... `lags` (zeros for a constant), by FFT."""
    x = x - x.mean()
    size = 1 << (2 * len(x) - 1).bit_length()
    covariance = np.fft.irfft(np.abs(np.fft.rfft(x, size)) ** 2, size)[: lags + 1]
    covariance = np.pad(covariance, (0, lags + 1 - len(covariance)))
    return covariance / covariance[0] if covariance[0] > 1e-12 * len(x) else np.zeros(lags + 1)
