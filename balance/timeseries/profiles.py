"""Methods that repeat a shape of the past: the last season, a typical one, or what followed similar moments."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from balance.timeseries.methods import Method, Problem
from balance.timeseries.series import Array

#: Moments of the past that are averaged, and how far apart they lie at least (as one in so many of a season).
_ANALOGUES, _APART = 6, 4
#: A window that is compared is at most so long: a week of hours, a day of five-minute steps.
_LONGEST_WINDOW = 336


def seasonal_naive(problem: Problem) -> Array | None:
    """Repeat the last season."""
    if problem.season is None:
        return None
    return np.resize(problem.values[-problem.season :], problem.horizon)


def level_scaled(problem: Problem) -> Array | None:
    """Repeat the last season's shape at the level of the last twenty-fourth of a season ("the last hour")."""
    season = problem.season
    if season is None:
        return None
    return _at_level(problem, problem.values, max(3, season // 24))


def smooth_level_scaled(problem: Problem) -> Array | None:
    """Repeat the last season's shape, smoothed over five steps, at the level of the last four ("20 minutes")."""
    season = problem.season
    if season is None or season < 60:
        return None
    padded = np.pad(problem.values, 2, mode="edge")
    return _at_level(problem, np.convolve(padded, np.full(5, 0.2), "valid"), 4)


def _at_level(problem: Problem, shape: Array, window: int) -> Array | None:
    season, y = problem.season, problem.values
    if season is None or len(y) < season + window:
        return None
    change = y[-window:].mean() - shape[-season - window : -season].mean()
    return np.asarray(np.resize(shape[-season:], problem.horizon) + change)


def typical_season(problem: Problem) -> Array | None:
    """Repeat the median of up to seven past seasons, each taken about its own mean, at the last season's level."""
    return None if problem.season is None else _typical(problem, problem.season, 7, problem.season)


def typical_long_season(problem: Problem) -> Array | None:
    """Repeat the median of up to four long seasons, at the level of the last one."""
    long = problem.long_season
    return None if long is None or long == problem.season else _typical(problem, long, 4, long)


def typical_long_season_now(problem: Problem) -> Array | None:
    """Repeat the median of up to four long seasons, at the level of the last short one."""
    long, season = problem.long_season, problem.season
    return None if long is None or season is None or long == season else _typical(problem, long, 4, season)


def _typical(problem: Problem, season: int, most: int, window: int) -> Array | None:
    cycles = min(most, len(problem.values) // season)
    if cycles < 2:
        return None
    past = problem.values[-cycles * season :].reshape(cycles, season)
    shape = np.median(past - past.mean(axis=1, keepdims=True), axis=0)
    level = problem.values[-window:].mean() - shape[-window:].mean()
    return np.asarray(np.resize(shape, problem.horizon) + level)


def analogues(problem: Problem) -> Array | None:
    """Average what followed the six past windows most like the newest one, each moved to today's level.

    The window is the long season, or two seasons where there is none; the level is that of its last season.
    Source: E. Lorenz, "Atmospheric predictability as revealed by naturally occurring analogues", 1969.
    """
    return _analogues(problem, problem.long_season if problem.long_season != problem.season else None)


def short_analogues(problem: Problem) -> Array | None:
    """As `analogues`, comparing two seasons only."""
    return _analogues(problem, None) if problem.long_season != problem.season else None


def _analogues(problem: Problem, window: int | None) -> Array | None:
    season, y, n = problem.season, problem.values, len(problem.values)
    if season is None:
        return None
    window = max(season, min(window or 2 * season, _LONGEST_WINDOW))
    starts = n - window - problem.horizon + 1
    if starts < 2 * season or season < 4:
        return None
    windows = sliding_window_view(y, window)
    sums = np.concatenate([[0.0], np.cumsum(y)])
    level = (sums[window:] - sums[window - season : -season]) / season
    off = (windows[:starts] - level[:starts, None]) - (windows[-1] - level[-1])
    distance = np.abs(off).mean(axis=1)
    chosen, left, apart = [], distance.copy(), max(1, season // _APART)
    for _ in range(_ANALOGUES):
        best = int(np.argmin(left))
        if not np.isfinite(left[best]):
            break
        chosen.append(best)
        left[max(0, best - apart) : best + apart + 1] = np.inf
    after = sliding_window_view(y, problem.horizon)
    follow = np.stack([after[start + window] - level[start] for start in chosen])
    nearness = 1 / (distance[chosen] + 1e-3 * distance.mean() + 1e-12)
    return np.asarray(nearness @ follow / nearness.sum() + level[-1])


SEASONAL_NAIVE = Method("seasonal_naive", seasonal_naive)
LEVEL_SCALED = Method("level_scaled_season", level_scaled)
SMOOTH_LEVEL_SCALED = Method("smooth_level_scaled_season", smooth_level_scaled)
TYPICAL_SEASON = Method("typical_season", typical_season)
TYPICAL_LONG_SEASON = Method("typical_long_season", typical_long_season)
TYPICAL_LONG_SEASON_NOW = Method("typical_long_season_now", typical_long_season_now)
ANALOGUES = Method("analogues", analogues)
SHORT_ANALOGUES = Method("short_analogues", short_analogues)
