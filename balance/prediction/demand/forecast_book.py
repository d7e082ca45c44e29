"""The latest forecast of every series: how old it is, which one is due, and which one's truth has come.

Forecasts are made elsewhere and take their time; whoever acts on them reads what is here and never waits.
A forecast is about fixed moments (`starts_at` and steps from there on), so one that is a little old still says
what it said; one of which more than half has passed is marked ``stale``.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from balance.types import check_id, check_int, check_number

#: Forecasts of one series that wait for their truth: enough for one of each step of a horizon.
MOST_WAITING = 64


class Grid(NamedTuple):
    """In which steps the forecasts are made, and how many of them."""

    step_s: float
    steps: int

    def __str__(self) -> str:
        """Return it as a key: ``10x6`` for six steps of ten seconds."""
        return f"{self.step_s:g}x{self.steps}"

    def start(self, now: float) -> float:
        """Return where the first step begins that a forecast made at `now` is about."""
        return now - now % self.step_s


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """A forecast with the moments that it is about.

    Attributes
    ----------
    made : dict
        What the predictor returned: `balance.prediction.demand.result.DemandForecast.to_dict`.
    starts_at : float
        Where its first step begins, POSIX seconds: nothing after that was known when it was made.
    """

    made: Mapping[str, Any]
    starts_at: float

    @property
    def until(self) -> float:
        """Where its last step ends."""
        return self.starts_at + float(self.made["step_s"]) * len(self.made["point"])

    def at(self, now: float) -> dict[str, Any]:
        """Return it as it is told to whoever asks; see `ForecastBook.latest`."""
        stale = now > (self.starts_at + self.until) / 2
        return {
            **self.made,
            "starts_at": self.starts_at,
            "age_s": max(0.0, now - self.starts_at),
            "status": "stale" if stale else self.made["status"],
        }


class ForecastBook:
    """Keeps the latest forecast of many series, all in the same steps.

    Parameters
    ----------
    step_s : float
        Seconds a step.
    steps : int
        How many steps ahead.
    max_series : int, default 2000
        Series kept; the one written longest ago goes first.

    Examples
    --------
    >>> book = ForecastBook(10.0, 6)
    >>> book.due(["whisper"], now=105.0)
    ['whisper']
    >>> book.put("whisper", {"status": "ok", "step_s": 10.0, "point": [3.0] * 6}, starts_at=100.0)
    >>> book.due(["whisper"], now=109.0)
    []
    >>> [(book.latest(now)["whisper"]["age_s"], book.latest(now)["whisper"]["status"]) for now in (105.0, 140.0)]
    [(5.0, 'ok'), (40.0, 'stale')]
    """

    def __init__(self, step_s: float, steps: int, *, max_series: int = 2000) -> None:
        step = check_number("step_s", step_s, minimum=1e-6, what="number of seconds")
        self.grid = Grid(step, check_int("steps", steps, minimum=1))
        self._max_series = check_int("max_series", max_series, minimum=1)
        self._latest: OrderedDict[str, Kept] = OrderedDict()
        self._waiting: dict[str, list[Kept]] = {}
        self._changed: set[str] = set()
        self._expired: set[str] = set()
        self._passed: dict[str, float] = {}

    def due(self, series: Iterable[str], now: float) -> list[str]:
        """Return those of which the newest complete step is in no forecast yet, the longest neglected first."""
        start = self.grid.start(now)
        late = [
            (self._starts_at(name), name)
            for name in series
            if self._passed.get(name, -math.inf) < start and (self._starts_at(name) < start or name in self._expired)
        ]
        return [name for _, name in sorted(late)]

    def late_steps(self, series: str, now: float) -> float:
        """Return how many steps are complete that the latest forecast does not know; infinite where there is none."""
        return (self.grid.start(now) - self._starts_at(series)) / self.grid.step_s

    def _starts_at(self, series: str) -> float:
        kept = self._latest.get(series)
        return -math.inf if kept is None else kept.starts_at

    def put(self, series: str, made: Mapping[str, Any], starts_at: float) -> None:
        """Keep a forecast in place of the one before; one that is older than that is left out."""
        if self._starts_at(check_id("series", series)) > starts_at:
            return
        kept = self._latest[series] = Kept(made, check_number("starts_at", starts_at))
        self._latest.move_to_end(series)
        self._changed.add(series)
        self._expired.discard(series)
        waiting = self._waiting.setdefault(series, [])
        # One at a time: the next to be judged begins where the last one ends, so that each truth counts once.
        if not waiting or kept.starts_at >= waiting[-1].until:
            waiting.append(kept)
            del waiting[:-MOST_WAITING]
        if len(self._latest) > self._max_series:
            self.forget(next(iter(self._latest)))

    def expire(self) -> None:
        """Let every series be due, whatever is known of it; its forecast is told until the next one is there."""
        self._expired = set(self._latest)

    def pass_over(self, series: str, starts_at: float) -> None:
        """Note that nothing could be forecast from `starts_at` on: the series is due again a step later."""
        self._passed[series] = starts_at
        self._expired.discard(series)

    def latest(self, now: float, series: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
        """Return the forecasts by series: of all, or of those of `series` that there is one of.

        Returns
        -------
        dict
            What was put, and ``starts_at``: where the first step begins, POSIX seconds; ``age_s``: seconds of which
            it knows nothing, since `starts_at`; ``status``: the forecast's own, or ``stale`` where more than half of
            its steps have passed.
        """
        names = self._latest if series is None else [name for name in series if name in self._latest]
        return {name: self._latest[name].at(now) for name in names}

    def ripe(self, now: float) -> list[tuple[str, Kept]]:
        """Return the forecasts all of whose steps have passed, each once."""
        found = []
        for name, waiting in self._waiting.items():
            over = list(itertools.takewhile(lambda kept: kept.until <= now, waiting))
            del waiting[: len(over)]
            found += [(name, kept) for kept in over]
        return found

    def forget(self, series: str) -> None:
        """Drop a series; nothing happens where there is none."""
        self._latest.pop(series, None)
        self._passed.pop(series, None)
        self._waiting.pop(series, None)
        self._changed.discard(series)
        self._expired.discard(series)

    @property
    def expired(self) -> int:
        """How many of the series that `expire` has made due have no new forecast yet."""
        return len(self._expired)

    # -- durable state -----------------------------------------------------------------------------

    def changed(self) -> dict[str, dict[str, Any]]:
        """Return the forecasts that were put since the last call, as JSON values for `restore`."""
        taken, self._changed = self._changed, set()
        return {
            name: {
                "made": dict(self._latest[name].made),
                "starts_at": self._latest[name].starts_at,
                "waiting": [
                    {"made": dict(kept.made), "starts_at": kept.starts_at} for kept in self._waiting.get(name, ())
                ],
            }
            for name in sorted(taken)
        }

    def restore(self, states: Mapping[str, Mapping[str, Any]]) -> None:
        """Take forecasts back, as `changed` returned them; those that are here already stay."""
        for name, state in sorted(states.items(), key=lambda item: float(item[1]["starts_at"])):
            if name not in self._latest:
                self._latest[name] = Kept(state["made"], float(state["starts_at"]))
                self._waiting[name] = [Kept(one["made"], float(one["starts_at"])) for one in state["waiting"]]
