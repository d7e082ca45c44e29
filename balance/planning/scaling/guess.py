"""What will come when a replica that is started now would answer: a centre, its scale, and the bounds.

The centre is a regression on how demand moved over the last bins, minutes and hour, on what it did a season ago
over the same stretch, and on what somebody else forecasts, if anybody does.  The scale of the error upwards is
a second regression: on the level, on the noise of counting, on whether demand is rising.  Everything is divided
by the level, so that one set of weights holds by day and by night.  The reach from the centre to the bound, in
scales, is learnt by `Margin`.  The reactive rule is the same without any idea of what moves: as just now, plus
the margin that this needed lately.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Optional, Tuple

import numpy as np
from numpy.typing import NDArray

from balance.planning.record import Record
from balance.planning.scaling.margin import Margin
from balance.planning.scaling.observation import Observation
from balance.planning.scaling.policy import ScalingPolicy
from balance.planning.scaling.rates import WINDOWS, Rates
from balance.planning.scaling.regression import Regression
from balance.planning.snapshot import DemandForecast

Array = NDArray[np.float64]

_Z90 = 1.2815515655446004
_MOVES = len(WINDOWS) - 1
#: Features of the centre: seven moves, last season's growth, what a forecast adds.
CENTRE_PRIOR = np.r_[np.zeros(_MOVES + 1), 1.0]
CENTRE_RIDGE = np.r_[np.full(_MOVES + 1, 0.05), 0.05]
#: Features of the scale: the level itself, counting noise, a forecast's own spread, four rises.
SCALE_PRIOR = np.array([0.03, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
SCALE_RIDGE = np.array([1.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
#: A sample teaches at most as if demand had been so far above the centre, in levels.
CLIP = 0.5
_FORGET_DAYS = 2.0
LEARN_EVERY = 8
_SCORE_EVERY = 4
_SCORES = 720
_LEVEL = 2  # the index of the window that is called the level: four bins


@dataclass(frozen=True, slots=True)
class Guess(Record):
    """What was guessed at the end of a bin about the window at the horizon.

    Attributes
    ----------
    first, last : int
        The window: bins from the first up to, not including, the last.
    level, usual : float
        Requests a second just now, and the normaliser of everything else.
    centre, scale : float
        By the forecast.
    naive_scale : float
        By the reactive rule, whose centre is the level.
    moves, rises : tuple of float
        The features.
    """

    first: int
    last: int
    level: float
    usual: float
    centre: float
    scale: float
    naive_scale: float
    moves: Tuple[float, ...]
    rises: Tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Expectations(Record):
    """Everything learnt about what will come.

    Attributes
    ----------
    rates : Rates
        What came.
    centre, scale : Regression
        How it moves, and how wrong that is.
    overs : float
        Mean error upwards, in levels: the scale never falls far below it.
    led, naive : Margin
        How far the truth lay above the forecast and above the reactive rule.  The reach that a policy takes from
        them is not kept here: what is expected is the same for every coverage.
    pending : tuple of Guess
        Guesses that nobody has judged yet.
    """

    rates: Rates = field(default_factory=Rates)
    centre: Regression = field(default_factory=Regression)
    scale: Regression = field(default_factory=Regression)
    overs: float = 0.03
    led: Margin = field(default_factory=Margin)
    naive: Margin = field(default_factory=Margin)
    pending: Tuple[Guess, ...] = ()

    def after(self, rate: float, end: float, seen: Observation, policy: ScalingPolicy) -> Expectations:
        """Return what is expected after a bin with that rate, which ended at `end`."""
        season_bins = max(1, round(policy.season_s / policy.bin_s))
        rates = self.rates.after(rate, season_bins)
        known = Expectations(rates, self.centre, self.scale, self.overs, self.led, self.naive, self.pending)
        if rates.count % LEARN_EVERY == 0:
            known = known._learnt(policy)
        guess = known.guess(end, seen, policy)
        return Expectations(
            rates, known.centre, known.scale, known.overs, known.led, known.naive, (*known.pending, guess)
        )

    def guess(self, at: float, seen: Observation, policy: ScalingPolicy) -> Guess:
        """Return what is expected of the window at the horizon, seen from a moment."""
        rates = self.rates
        means = rates.means()
        level = float(means[_LEVEL])
        span_bins = max(1, round(policy.window_s / policy.bin_s))
        lead_bins = round(seen.cold_start_s / policy.bin_s)
        usual = max(level + 0.05 * rates.usual, 1.0 / (span_bins * policy.bin_s))
        season_bins = max(1, round(policy.season_s / policy.bin_s))
        moves = np.empty(_MOVES + 2)
        moves[:_MOVES] = means[:-1] - means[1:]
        moves[_MOVES] = _seasonal_growth(rates, level, lead_bins + span_bins / 2, season_bins)
        foretold = _foretold(seen.forecast, at, seen.cold_start_s, span_bins * policy.bin_s)
        moves[_MOVES + 1] = foretold[0] - level if foretold else 0.0
        moves /= usual
        rises = np.empty(len(SCALE_PRIOR))
        rises[0] = 1.0
        rises[1] = math.sqrt(max(level, 0.0) / (span_bins * policy.bin_s)) / usual
        rises[2] = foretold[1] / usual if foretold else 0.0
        rises[3:] = np.maximum(0.0, means[2:6] - means[[4, 5, 6, 7]]) / usual
        centre = max(0.0, level + usual * self.centre.of(moves, CENTRE_PRIOR))
        scale = usual * max(self.scale.of(rises, SCALE_PRIOR), 0.3 * self.overs, 1e-6)
        return Guess(
            rates.count + lead_bins,
            rates.count + lead_bins + span_bins,
            level,
            usual,
            centre,
            scale,
            usual * (0.05 + float(rises[1])),
            tuple(moves.tolist()),
            tuple(rises.tolist()),
        )

    def _learnt(self, policy: ScalingPolicy) -> Expectations:
        """Return it after judging every guess whose window is over."""
        judged = [(guess, self.rates.mean_of(guess.first, guess.last)) for guess in self.pending]
        pending = tuple(guess for guess in self.pending if guess.last > self.rates.count)
        pairs = [(guess, truth) for guess, truth in judged if truth is not None]
        if not pairs:
            return Expectations(self.rates, self.centre, self.scale, self.overs, self.led, self.naive, pending)
        usual = np.array([guess.usual for guess, _ in pairs])
        moves = np.array([guess.moves for guess, _ in pairs])
        rises = np.array([guess.rises for guess, _ in pairs])
        moved = np.array([truth - guess.level for guess, truth in pairs]) / usual
        error = np.array([truth - guess.centre for guess, truth in pairs]) / usual
        keep = 0.5 ** (len(pairs) * policy.bin_s / (_FORGET_DAYS * policy.season_s))
        # A jump is one event, not a hundred samples of how demand moves: its pull is bounded (P. J. Huber 1964).
        pull = np.minimum(1.0, 0.15 / np.maximum(np.abs(error), 1e-12))[:, None]
        root = np.sqrt(pull)
        over = np.clip(error, 0.0, CLIP)
        few = [pair for pair in pairs if pair[0].first % _SCORE_EVERY == 0]
        return Expectations(
            self.rates,
            self.centre.after(moves * root, moved * root[:, 0], CENTRE_PRIOR, CENTRE_RIDGE, keep),
            self.scale.after(rises, over, SCALE_PRIOR, SCALE_RIDGE, keep),
            self.overs + (1.0 - keep) * (float(over.mean()) - self.overs),
            self.led.after([(truth - g.centre) / g.scale for g, truth in few], _SCORES),
            self.naive.after([(truth - g.level) / g.naive_scale for g, truth in few], _SCORES),
            pending,
        )


def _seasonal_growth(rates: Rates, level: float, ahead_bins: float, season_bins: int) -> float:
    """Return by how much demand grew a season ago over the same stretch, at today's level."""
    then, later = rates.a_season_ago(0.0, season_bins), rates.a_season_ago(ahead_bins, season_bins)
    if then is None or later is None or then <= 0:
        return 0.0
    return (later - then) * min(4.0, max(0.25, level / then))


def _foretold(
    forecast: Optional[DemandForecast], at: float, cold_start_s: float, span_s: float
) -> Optional[Tuple[float, float]]:
    """Return the rate that a forecast expects in the window at the horizon, and its standard deviation."""
    if forecast is None or forecast.status != "ok":
        return None
    start = at + cold_start_s
    span_s = min(span_s, forecast.until - start)
    if span_s < forecast.step_s * 0.999:
        return None
    found = forecast.between(start, start + span_s)
    if found is None:
        return None
    middle, high = found
    return middle / span_s, (high - middle) / span_s / _Z90
