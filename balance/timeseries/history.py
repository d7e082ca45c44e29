"""The recent past of many series, in bounded memory.

Each series is kept at several resolutions at once (by default seconds for ten minutes, then coarser and
longer, to days for two years), each a ring of bins with count, sum, minimum and maximum: the layout of RRDtool
(T. Oetiker, "MRTG: The Multi Router Traffic Grapher", LISA 1998).  A question is answered from the
finest tier that reaches far enough back.

It does not read a clock: whoever records says when.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balance.errors import InvalidValue
from balance.timeseries.tier import COUNT, MAX, MIN, SUM, Array, Tier
from balance.types import check_id, check_int, check_number

#: (seconds a bin, bins): 10 min of 1 s, 2 h of 10 s, 1 day of 1 min, 2 weeks of 10 min, 90 days of 1 h, 2 years of 1 d.
DEFAULT_TIERS: tuple[tuple[float, int], ...] = (
    *((1.0, 600), (10.0, 720), (60.0, 1440), (600.0, 2016)),
    *((3600.0, 2160), (86400.0, 730)),
)

KINDS = ("mean", "sum", "count", "min", "max")

#: The largest time (far beyond any date) and value that a series takes: sums of them stay finite.
_LARGEST_S, _LARGEST_VALUE = 1e12, 1e100


class History:
    """Ring buffers of many series, downsampled in tiers.

    Parameters
    ----------
    tiers : sequence of (float, int), optional
        Seconds a bin and number of bins, finest first; each step a multiple of the one before.
    max_series : int, default 2000
        Series kept; the one written longest ago goes first.

    Notes
    -----
    Writing costs some ten microseconds; a full series takes about 250 KB with the default tiers.

    Examples
    --------
    >>> history = History()
    >>> history.add("whisper", at=1000.2)
    >>> history.add("whisper", at=1002.9, value=4)
    >>> history.counts("whisper", step_s=1.0, n=3, now=1003.0).tolist()
    [1.0, 0.0, 4.0]
    """

    def __init__(self, *, tiers: Sequence[tuple[float, int]] = DEFAULT_TIERS, max_series: int = 2000) -> None:
        self._tiers = [(check_number("step_s", step), check_int("bins", bins, minimum=1)) for step, bins in tiers]
        steps = [step for step, _ in self._tiers]
        if not steps or steps[0] <= 0 or any(not _multiple(b, a) or b <= a for a, b in itertools.pairwise(steps)):
            raise InvalidValue("tiers", tiers, "steps above 0 that grow, each a whole multiple of the one before")
        self._max_series = check_int("max_series", max_series, minimum=1)
        self._series: OrderedDict[str, list[Tier]] = OrderedDict()
        #: By series, when its counter was read last and what it said.
        self._counters: dict[str, tuple[float, float]] = {}

    @property
    def base_step_s(self) -> float:
        """Width of the finest bin, in seconds."""
        return self._tiers[0][0]

    def resolution(self, step_s: float) -> tuple[float, int]:
        """Return (seconds a bin, bins) of the coarsest tier whose bins are at most `step_s` wide, else the finest."""
        return max((tier for tier in self._tiers if tier[0] <= step_s), default=self._tiers[0])

    def series(self) -> list[str]:
        """Return the ids of all series, sorted."""
        return sorted(self._series)

    def add(self, series: str, at: float, value: float = 1.0) -> None:
        """Record `value` at POSIX second `at`: a number of events, or a reading of a gauge.

        Order does not matter: what is older than a tier reaches is left out of that tier only.
        `InvalidValue` for a time or value that is not finite, or beyond 1e12 s or 1e100.
        """
        moment, amount = _checked(at, value)
        for tier in self._open(series):
            tier.add(moment, amount)

    def add_many(self, series: str, points: Iterable[tuple[float, float]]) -> None:
        """Record many ``(at, value)``; all are checked before the first is recorded."""
        checked = [_checked(at, value) for at, value in points]
        if checked:
            tiers = self._open(series)
            for at, value in checked:
                for tier in tiers:
                    tier.add(at, value)

    def add_counter(self, series: str, at: float, reading: float) -> float:
        """Record by how much a counter has grown since it was read last, and return that.

        The growth is spread evenly over the time between: a pause in the reading is no burst.  A counter that has
        fallen began again from 0, so what it says now came since then.  The first reading only says where the counter
        stands; one that is not newer than the last is left out, since the next one's growth holds it.

        Parameters
        ----------
        series : str
            Which; its values are the growth, as if each event had been added.
        at : float
            When it was read, POSIX seconds.
        reading : float
            What it said, 0 or more.

        Notes
        -----
        O(steps since the last reading), at most the bins of all tiers.

        Examples
        --------
        >>> history = History()
        >>> [history.add_counter("served", at, reading) for at, reading in ((100, 7), (104, 15), (106, 4))]
        [0.0, 8.0, 4.0]
        >>> history.counts("served", step_s=1.0, n=6, now=106.0).tolist()
        [2.0, 2.0, 2.0, 2.0, 2.0, 2.0]
        """
        moment, amount = _checked(at, check_number("reading", reading, minimum=0))
        tiers = self._open(series)
        last = self._counters.get(series)
        if last is None:
            self._counters[series] = (moment, amount)
            for tier in tiers:
                tier.add(moment, 0.0)
            return 0.0
        if moment <= last[0]:
            return 0.0
        self._counters[series] = (moment, amount)
        growth = amount - last[1] if amount >= last[1] else amount
        for tier in tiers:
            tier.spread(last[0], moment, growth)
        return growth

    def counts(self, series: str, step_s: float, n: int, now: float) -> Array:
        """Return the sum of each of the last `n` complete steps before `now`, oldest first.

        A step in which nothing was recorded is 0; steps before the one in which the series began, or older
        than any tier reaches, are NaN: nothing is known of them.  Meant for events; see `values` for gauges.
        """
        return self.values(series, step_s, n, now, kind="sum")

    def values(self, series: str, step_s: float, n: int, now: float, kind: str = "mean") -> Array:
        """Return one statistic of each of the last `n` complete steps before `now`, oldest first.

        Parameters
        ----------
        series : str
            Which; an unknown one is all NaN.
        step_s : float
            Seconds a step: a whole multiple of the finest tier's.  Steps begin at multiples of it.
        n : int
            How many steps.
        now : float
            POSIX seconds; the step that holds it is not complete and is left out.
        kind : {"mean", "sum", "count", "min", "max"}
            What to return.  A step without a record is 0 for sum and count and NaN otherwise.

        Returns
        -------
        numpy.ndarray
            Shape (n,), float64.
        """
        check_id("series", series)
        step = check_number("step_s", step_s, what="number of seconds")
        steps = check_int("n", n, minimum=1)
        if kind not in KINDS:
            raise InvalidValue("kind", kind, "one of " + ", ".join(KINDS))
        if step <= 0 or not _multiple(step, self.base_step_s):
            raise InvalidValue("step_s", step_s, f"a whole multiple of {self.base_step_s:g} s")
        end = math.floor(check_number("now", now) / step)
        out = np.full(steps, math.nan)
        tiers = self._series.get(series)
        if tiers is None:
            return out
        tier = self._tier_for(tiers, step, steps)
        per = round(step / tier.step_s)
        bins = tier.window((end - steps) * per, steps * per).reshape(4, steps, per)
        known = _known(tier, step, end, steps, whole=kind in {"sum", "count"})
        out[known] = _statistic(bins, kind)[known]
        return out

    def latest(self, series: str) -> float | None:
        """Return the POSIX second at which the newest bin of `series` begins, or None."""
        tiers = self._series.get(series)
        return None if tiers is None or tiers[0].last is None else tiers[0].last * tiers[0].step_s

    def first(self, series: str) -> float | None:
        """Return the POSIX second at which the oldest bin that is still kept begins, or None."""
        tiers = self._series.get(series)
        if tiers is None:
            return None
        return min((tier.first * tier.step_s for tier in tiers if tier.first is not None), default=None)

    def part(self, series: Iterable[str]) -> History:
        """Return a history of these series alone, those that are known; it shares their bins with this one.

        Examples
        --------
        >>> history = History()
        >>> history.add("whisper", at=1000.0)
        >>> history.part(["whisper", "nobody"]).series()
        ['whisper']
        """
        made = History(tiers=self._tiers, max_series=self._max_series)
        made._series.update({name: self._series[name] for name in series if name in self._series})
        return made

    def forget(self, series: str) -> None:
        """Drop a series; nothing happens where there is none."""
        self._series.pop(series, None)
        self._counters.pop(series, None)

    def snapshot(self) -> dict[str, Any]:
        """Return everything as JSON values: ``tiers``, by id each tier's bins, and ``counters``."""
        return {
            "tiers": [[step, bins] for step, bins in self._tiers],
            "series": {name: [tier.snapshot() for tier in tiers] for name, tiers in self._series.items()},
            "counters": {name: list(read) for name, read in self._counters.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take everything back to what `snapshot` returned; `InvalidValue` where the tiers' steps differ.

        Coarser tiers that a series was saved without are made from its coarsest one.
        """
        steps = [float(step) for step, _ in state["tiers"]]
        if steps != [step for step, _ in self._tiers][: len(steps)] or not steps:
            raise InvalidValue("state", steps, f"the steps of this history, {[step for step, _ in self._tiers]}")
        series: OrderedDict[str, list[Tier]] = OrderedDict()
        for name, saved in state["series"].items():
            tiers = series[name] = [Tier(step, bins) for step, bins in self._tiers]
            for tier, bins in zip(tiers, saved, strict=False):
                tier.restore(bins)
            for tier in tiers[len(saved) :]:
                tier.absorb(tiers[len(saved) - 1])
        self._series = series
        self._counters = {name: (at, reading) for name, (at, reading) in state.get("counters", {}).items()}

    def _open(self, series: str) -> list[Tier]:
        tiers = self._series.get(series)
        if tiers is None:
            tiers = self._series[check_id("series", series)] = [Tier(step, bins) for step, bins in self._tiers]
            if len(self._series) > self._max_series:
                oldest, _ = self._series.popitem(last=False)
                self._counters.pop(oldest, None)
        else:
            self._series.move_to_end(series)
        return tiers

    @staticmethod
    def _tier_for(tiers: list[Tier], step: float, steps: int) -> Tier:
        """Return the finest tier that divides `step` and reaches back far enough, else the one reaching farthest."""
        fitting = [tier for tier in tiers if _multiple(step, tier.step_s)]
        return next((tier for tier in fitting if tier.bins * tier.step_s >= step * (steps + 1)), fitting[-1])


def _known(tier: Tier, step: float, end: int, steps: int, whole: bool) -> NDArray[np.bool_]:
    """Say of which steps something is known: a sum needs the whole step, a mean only a part of it."""
    if tier.first is None:
        return np.zeros(steps, dtype=bool)
    starts = np.arange(end - steps, end) * step
    began = tier.first * tier.step_s
    return np.asarray(starts >= began if whole else starts + step > began)


def _checked(at: object, value: object) -> tuple[float, float]:
    return (
        check_number("at", at, minimum=-_LARGEST_S, maximum=_LARGEST_S, what="number of POSIX seconds"),
        check_number("value", value, minimum=-_LARGEST_VALUE, maximum=_LARGEST_VALUE),
    )


def _multiple(large: float, small: float) -> bool:
    ratio = large / small
    return round(ratio) >= 1 and abs(ratio - round(ratio)) < 1e-6


def _statistic(bins: Array, kind: str) -> Array:
    """Return `kind` over the last axis of bins of shape (4, steps, per)."""
    count = bins[COUNT].sum(axis=1)
    if kind == "count":
        return np.asarray(count)
    total = bins[SUM].sum(axis=1)
    if kind == "sum":
        return np.asarray(total)
    if kind == "mean":
        return np.asarray(np.divide(total, count, out=np.full_like(total, math.nan), where=count > 0))
    extreme = bins[MIN].min(axis=1) if kind == "min" else bins[MAX].max(axis=1)
    return np.where(count > 0, extreme, math.nan)
