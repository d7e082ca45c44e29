"""What is abnormal in how a model is used, since when, and how sure that is.

Three questions, each with its own evidence: has the level changed (`find_changes`, seasons taken out), is the course
of the values unlike anything before (`AnomalyScorer`), has it fallen silent.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Dict, List, Optional

import numpy as np

from balance.prediction.pattern.readings import HistoryReader, Readings
from balance.prediction.pattern.trend_detector import adjusted
from balance.timeseries.anomaly import AnomalyScorer
from balance.timeseries.change_points import find_changes
from balance.timeseries.decomposition import decompose
from balance.timeseries.series import Array

#: What is this likely by chance is nothing.
SIGNIFICANCE = 0.01
#: So many of the largest past novelties say how the tail falls.
_PEAKS = 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is abnormal.

    Attributes
    ----------
    kind : str
        ``level_shift``, ``unlike_before`` or ``silence``.
    since : float
        When it began, POSIX seconds.
    until : float, optional
        When it was over; None while it lasts.
    confidence : float
        One less the probability of so much by chance.
    observed, expected : float
        The value in it, and what it was before.
    text : str
        A sentence.
    """

    kind: str
    since: float
    until: Optional[float]
    confidence: float
    observed: float
    expected: float
    text: str


@dataclass(frozen=True, slots=True)
class Behavior:
    """What is abnormal in one window; see `BehaviorAnalyzer.analyze_behavior` for the fields."""

    model_id: str
    status: str
    window_s: float
    step_s: float
    known_steps: int
    unit: str
    is_abnormal: bool = False
    since: Optional[float] = None
    confidence: float = 0.0
    findings: List[Dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


class BehaviorAnalyzer(HistoryReader):
    """Say what is abnormal in how a model is used, out of recorded history; see `HistoryReader` for where it reads.

    Examples
    --------
    >>> from balance.clock import FakeClock
    >>> clock = FakeClock()
    >>> analyzer = BehaviorAnalyzer(clock=clock)
    >>> for second, count in enumerate(np.random.default_rng(1).poisson(6, 500)):
    ...     analyzer.record("whisper", clock.wall(), count + 20 * (second >= 400))
    ...     clock.advance(1)
    >>> found = analyzer.analyze_behavior("whisper", time_window=300)
    >>> found["is_abnormal"], clock.wall() - found["since"], found["findings"][0]["kind"]
    (True, 100.0, 'level_shift')
    >>> found["findings"][0]["text"]
    'whisper went from 6 to 26 per second and stays there.'
    """

    def analyze_behavior(self, model_id: str, time_window: int = 300) -> dict:  # type: ignore[type-arg]  # the contract's
        """Look for what is abnormal in the last `time_window` seconds, against all that is known from before.

        Parameters
        ----------
        model_id : str
            The model.
        time_window : int, default 300
            Seconds, at least the history's finest step.  A long window is looked at in coarser steps.

        Returns
        -------
        dict
            ``model_id``;
            ``status``: ``ok``; ``constant`` (nothing ever varied, so nothing is abnormal); ``insufficient_data``
            (fewer than 8 steps of the window are known) or ``unknown`` (nothing was ever recorded);
            ``window_s``, ``step_s`` (seconds), ``known_steps``;
            ``unit``: ``per_second`` (events) or ``value`` (gauges);
            ``is_abnormal``; ``since``: when the earliest of what was found began, POSIX seconds, or None;
            ``confidence``: of the surest, 0 to 1;
            ``findings``: oldest first, each ``kind`` (``level_shift``; ``unlike_before``: the course of the values
            is unlike any before; ``silence``: events stay away), ``since`` and ``until`` (POSIX seconds, None while
            it lasts), ``confidence`` (one less the probability of so much by chance), ``observed`` and ``expected``
            (in `unit`) and ``text`` (a sentence).

        Raises
        ------
        InvalidValue
            An empty id, a window that is no number or shorter than the finest step.

        Notes
        -----
        30 to 500 ms, by how much history there is and how many seasons it has.
        """
        seen = self.read(model_id, time_window)
        findings: list[Finding] = []
        if seen.status == "ok":
            findings = [*_level_shifts(model_id, seen), *_unlike_before(model_id, seen), *_silence(model_id, seen)]
            findings.sort(key=lambda one: one.since)
        return Behavior(
            model_id=model_id,
            status=seen.status,
            window_s=seen.window * seen.step_s,
            step_s=seen.step_s,
            known_steps=len(seen.known),
            unit=seen.unit,
            is_abnormal=bool(findings),
            since=findings[0].since if findings else None,
            confidence=max((one.confidence for one in findings), default=0.0),
            findings=[asdict(one) for one in findings],
        ).to_dict()


def _words(seen: Readings) -> str:
    return " per second" if seen.unit == "per_second" else ""


def _level_shifts(model_id: str, seen: Readings) -> list[Finding]:
    """Return the changes of level within the window."""
    everything = Readings(seen.status, seen.values, seen.start_s, seen.step_s, len(seen.values), seen.unit)
    changes = find_changes(adjusted(everything, decompose(seen.values, seen.seasons())), SIGNIFICANCE)
    found = []
    for number, change in enumerate(changes):
        if change.index < seen.first:
            continue
        until = seen.at(changes[number + 1].index) if number + 1 < len(changes) else None
        lasts = "stays there" if until is None else "back again, or on"
        text = f"{model_id} went from {change.before:.3g} to {change.after:.3g}{_words(seen)} and {lasts}."
        since = seen.at(change.index)
        found.append(
            Finding("level_shift", since, until, 1.0 - change.p_value, change.after, change.before, text),
        )
    return found


def _unlike_before(model_id: str, seen: Readings) -> list[Finding]:
    """Return where, within the window, the newest values were further from all earlier ones than chance explains."""
    scorer = AnomalyScorer(quiet=0)
    novelties: list[float] = []
    found: list[Finding] = []
    lasting = False
    for index, value in enumerate(seen.values.tolist()):
        score = scorer.update(value)
        if score.status == "gap":
            continue
        if lasting and score.novelty <= score.usual_novelty:
            found[-1] = replace(found[-1], until=seen.at(index))
            lasting = False
        if score.is_anomaly and index >= seen.first and not lasting:
            chance = min(1.0, seen.window * _tail(np.array(novelties), score.novelty))
            if chance <= SIGNIFICANCE:
                usual = float(np.nanmedian(seen.values[:index]))
                text = (
                    f"{model_id} is at {value:.3g}{_words(seen)} ({usual:.3g} is usual): no course like that is known."
                )
                found.append(Finding("unlike_before", seen.at(index), None, 1.0 - chance, value, usual, text))
                lasting = True
        if score.novelty > 0:
            novelties.append(score.novelty)
    return found


def _tail(past: Array, value: float) -> float:
    """Return how likely one value reaches so far, by the largest of those before it.

    Peaks over a threshold: a generalised Pareto distribution with the moments of the largest twenty's excesses
    (J. Hosking, J. Wallis, "Parameter and quantile estimation for the generalized Pareto distribution",
    Technometrics 29, 1987; for streams A. Siffer et al., KDD 2017).  Tails are not taken to be lighter than
    exponential: twenty values can't show that.
    """
    if len(past) < 2 * _PEAKS:
        return 1.0
    largest = np.sort(past)[-_PEAKS:]
    excess = largest[1:] - largest[0]
    mean, variance = float(excess.mean()), float(excess.var())
    share = (_PEAKS - 1) / len(past)
    beyond = value - float(largest[0])
    if mean <= 0 or beyond <= 0:
        return share if beyond <= 0 else 1.0 / (len(past) + 1)
    ratio = mean * mean / variance if variance > 0 else 1.0
    shape = min(0.45, max(0.0, 0.5 * (1.0 - ratio)))
    scale = mean * (1.0 - shape)
    if shape < 1e-6:
        return share * math.exp(-beyond / scale)
    return float(share * (1.0 + shape * beyond / scale) ** (-1.0 / shape))


def _silence(model_id: str, seen: Readings) -> list[Finding]:
    """Return whether events stay away for longer than ever and than chance explains."""
    quiet = _quiet_runs(seen.values)
    last = quiet[-1] if quiet and quiet[-1][1] == len(seen.values) else None
    if seen.unit != "per_second" or last is None:
        return []
    start, end = last
    past = seen.values[:start]
    counts = past[np.isfinite(past)] * seen.step_s
    longest = max((b - a for a, b in quiet[:-1]), default=0)
    if end - start <= longest or len(counts) < 8 or end <= seen.first:
        return []
    mean = float(counts.mean())
    # Bursts leave longer gaps than independent arrivals do: by about how much their counts vary more.
    bursts = max(1.0, float(counts.var()) / mean) if mean > 0 else 1.0
    chance = math.exp(-mean * (end - start) / bursts)
    if chance > SIGNIFICANCE:
        return []
    silent_s = (end - start) * seen.step_s
    text = f"{model_id} has been silent for {silent_s:.0f} s; {mean / seen.step_s:.3g} per second came before."
    return [Finding("silence", seen.at(start), None, 1.0 - chance, 0.0, mean / seen.step_s, text)]


def _quiet_runs(values: Array) -> list[tuple[int, int]]:
    """Return (first, end) of each run of zeros."""
    quiet = np.concatenate([[False], values == 0, [False]])
    edges = np.flatnonzero(quiet[1:] != quiet[:-1])
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
