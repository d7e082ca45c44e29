"""Does the forecast pay?  Two imagined fleets, one led by it and one by the reactive rule, live through what came.

Each is charged its replica-seconds and, at the price that the coverage implies, the work that missed the
objective.  The running difference is a two-sided cumulative sum (E. S. Page, "Continuous inspection schemes",
1954), held within +- patience: at the one end the reactive rule leads, at the other the forecast.  Whichever
leads, both are judged, so that a demoted forecast comes back when it pays again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from balance.planning.record import Record
from balance.planning.scaling.fleet import Fleet, late_share, served


@dataclass(frozen=True, slots=True)
class Shadow(Record):
    """A fleet that might have been.

    Attributes
    ----------
    fleet : Fleet
        Its replicas.
    queued : float
        The requests that would wait.
    replica_s, missed : float
        What it has cost so far, and how many requests would have missed the objective.
    """

    fleet: Fleet = field(default_factory=Fleet)
    queued: float = 0.0
    replica_s: float = 0.0
    missed: float = 0.0

    def after(self, arrived: float, now: float, bin_s: float, service_s: float, objective_s: float) -> Shadow:
        """Return it after a bin that ended `now` in which so many requests came."""
        fleet = self.fleet.at(now - bin_s)
        queued = served(self.queued, arrived, fleet.ready, service_s, bin_s)
        late = arrived * late_share(self.queued, queued, fleet.ready, service_s, objective_s)
        paid = (fleet.ready + fleet.starting) * bin_s
        return Shadow(fleet.at(now), queued, self.replica_s + paid, self.missed + late)

    def told(self, target: int, now: float, cold_start_s: float) -> Shadow:
        """Return it after it was told to be of a size."""
        return Shadow(self.fleet.towards(target, now, cold_start_s), self.queued, self.replica_s, self.missed)


@dataclass(frozen=True, slots=True)
class Guard(Record):
    """Which way of deciding leads.

    Attributes
    ----------
    mode : str
        ``forecast`` or ``reactive``.
    behind : float
        By how many windows of missed objective the forecast is behind (negative: ahead), within the patience.
    forecast, reactive : Shadow
        What would have become of each alone.
    switches : int
        How often the lead changed.
    """

    mode: str = "forecast"
    behind: float = 0.0
    forecast: Shadow = field(default_factory=Shadow)
    reactive: Shadow = field(default_factory=Shadow)
    switches: int = 0

    def after(self, forecast: Shadow, reactive: Shadow, *, service_s: float, price: float, unit: float,
              patience: float) -> Guard:  # fmt: skip
        """Return the guard after both shadows lived through a bin; `unit` is the work of a window."""
        dearer = _loss(self.forecast, forecast, service_s, price) - _loss(self.reactive, reactive, service_s, price)
        behind = min(patience, max(-patience, self.behind + dearer / (price * unit)))
        mode = "reactive" if behind >= patience else "forecast" if behind <= -patience else self.mode
        return Guard(mode, behind, forecast, reactive, self.switches + (mode != self.mode))


def _loss(before: Shadow, after: Shadow, service_s: float, price: float) -> float:
    return after.replica_s - before.replica_s + price * service_s * (after.missed - before.missed)
