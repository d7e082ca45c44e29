"""The settings of scaling: one that a user turns, and those that say how the numbers are made."""

from __future__ import annotations

from dataclasses import dataclass

from balance.errors import InvalidValue
from balance.planning.record import Record
from balance.types import check_int, check_number

LEADS = ("auto", "forecast", "reactive")


@dataclass(frozen=True, slots=True)
class ScalingPolicy(Record):
    """How careful scaling is, and how it counts.

    Attributes
    ----------
    coverage : float
        The one knob: how often capacity shall suffice for what comes.  It also prices a missed request against
        an idle replica, ``coverage / (1 - coverage)`` to one, which is the exchange at which the quantile of that
        level is the best capacity (the newsvendor's rule) and by which the guard judges.
    on_time : float
        Share of the requests that shall start in time where requests are few and long (Erlang's formula).
    bin_s : float
        Arrivals are counted in bins of so many seconds.
    window_s : float
        Demand is judged over at least so long: counts of shorter windows are mostly chance.
    season_s : float
        After how long demand looks alike; a day.
    drain_s : float
        A backlog is to be gone after so long at most: sooner where that is cheaper, by the price of a miss and the
        measured cold start, but no sooner than within the objective.
    settle_s : float
        A need has to stay lower for so long before anything is given back.
    lead : str
        What capacity is made for: ``auto`` (the forecast while it pays, else the reactive rule), ``forecast`` or
        ``reactive`` whatever the guard says.
    patience : float
        By how many windows of wholly missed objective (or the cost of as much) the forecast has to fall behind
        before the reactive rule takes over, and to get ahead before it leads again.
    min_replicas, max_replicas : int
        Bounds of every decision.
    """

    coverage: float = 0.9
    on_time: float = 0.95
    bin_s: float = 15.0
    window_s: float = 60.0
    season_s: float = 86_400.0
    drain_s: float = 600.0
    settle_s: float = 30.0
    lead: str = "auto"
    patience: float = 5.0
    min_replicas: int = 0
    max_replicas: int = 1000

    def __post_init__(self) -> None:
        if self.lead not in LEADS:
            raise InvalidValue("lead", self.lead, "one of " + ", ".join(LEADS))
        for name in ("coverage", "on_time"):
            check_number(name, getattr(self, name), minimum=0.01, maximum=0.9999)
        for name in ("bin_s", "window_s", "season_s", "drain_s", "patience"):
            check_number(name, getattr(self, name), minimum=1e-3)
        check_number("settle_s", self.settle_s, minimum=0)
        check_int("min_replicas", self.min_replicas, minimum=0)
        check_int("max_replicas", self.max_replicas, minimum=max(1, self.min_replicas))

    @property
    def price(self) -> float:
        """What a missed replica-second of work costs, in idle replica-seconds."""
        return self.coverage / (1.0 - self.coverage)


#: The policy where none is given.
USUAL_SCALING = ScalingPolicy()
