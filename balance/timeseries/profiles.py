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
#: Seasons with more steps than this are smoothed over neighbouring steps, one in so many on either side.
_FINE = 120


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
    """Repeat the last season's shape, smoothed, at the level of the last seventy-second of it ("20 minutes")."""
    season = problem.season
    if season is None or season < _FINE:
        return None
    return _at_level(problem, _smoothed(problem.values, season), _moment(season))


def recent_seasons_now(problem: Problem) -> Array | None:
    """Average the last three seasons, each smoothed and at the level of the last seventy-second of a season."""
    season = problem.season
    if season is None:
        return None
    shape, made = _smoothed(problem.values, season), []
    for back in (1, 2, 3):
        ahead = _at_level(problem, shape, _moment(season), back)
        if ahead is not None:
            made.append(ahead)
    return np.mean(made, axis=0) if len(made) > 1 else None


def typical_season_now(problem: Problem) -> Array | None:
    """Repeat the median of up to seven seasons, smoothed, at the level of the last seventy-second of a season."""
    season = problem.season
    if season is None or len(problem.values) < 2 * season:
        return None
    cycles = min(7, len(problem.values) // season)
    past = problem.values[-cycles * season :].reshape(cycles, season)
    shape = np.median(past - past.mean(axis=1, keepdims=True), axis=0)
    around = _smoothed(np.tile(shape, 3), season)[season : 2 * season]
    window = _moment(season)
    return np.asarray(np.resize(around, problem.horizon) + problem.values[-window:].mean() - around[-window:].mean())


def _moment(season: int) -> int:
    """Return how many of the last steps say what the level is now."""
    return max(3, season // 72)


def _smoothed(values: Array, season: int) -> Array:
    """Return `values`, each the mean with its neighbours where a season has many steps."""
    side = season // _FINE
    if not side:
        return values
    width = 2 * side + 1
    return np.convolve(np.pad(values, side, mode="edge"), np.full(width, 1 / width), "valid")


def _at_level(problem: Problem, shape: Array, window: int, back: int = 1) -> Array | None:
    """Return the season of `shape` that began `back` seasons ago, at the level of the last `window` values."""
    season, y = problem.season, problem.values
    if season is None or len(y) < back * season + window:
        return None
    start = len(y) - back * season
    change = y[-window:].mean() - shape[start - window : start].mean()
    return np.asarray(np.resize(shape[start : start + season], problem.horizon) + change)


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
    # Windows that begin within a forty-eighth of a season of each other are nearly the same: one of them will do.
    start = np.arange((starts - 1) % max(1, season // 48), starts, max(1, season // 48))
    windows = sliding_window_view(y, window)
    sums = np.concatenate([[0.0], np.cumsum(y)])
    level = (sums[window:] - sums[window - season : -season]) / season
    off = (windows[start] - level[start, None]) - (windows[-1] - level[-1])
    distance = np.abs(off).mean(axis=1)
    chosen, left, apart = [], distance.copy(), max(1, season // _APART)
    for _ in range(_ANALOGUES):
        best = int(np.argmin(left))
        if not np.isfinite(left[best]):
            break
        chosen.append(best)
        left[np.abs(start - start[best]) <= apart] = np.inf
    after = sliding_window_view(y, problem.horizon)
    follow = np.stack([after[at + window] - level[at] for at in start[chosen]])
    nearness = 1 / (distance[chosen] + 1e-3 * distance.mean() + 1e-12)
    return np.asarray(nearness @ follow / nearness.sum() + level[-1])


SEASONAL_NAIVE = Method("seasonal_naive", seasonal_naive)
LEVEL_SCALED = Method("level_scaled_season", level_scaled)
SMOOTH_LEVEL_SCALED = Method("smooth_level_scaled_season", smooth_level_scaled)
RECENT_SEASONS_NOW = Method("recent_seasons_now", recent_seasons_now)
TYPICAL_SEASON_NOW = Method("typical_season_now", typical_season_now)
TYPICAL_SEASON = Method("typical_season", typical_season)
TYPICAL_LONG_SEASON = Method("typical_long_season", typical_long_season)
TYPICAL_LONG_SEASON_NOW = Method("typical_long_season_now", typical_long_season_now)
ANALOGUES = Method("analogues", analogues)
SHORT_ANALOGUES = Method("short_analogues", short_analogues)
