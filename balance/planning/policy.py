"""The few settings of the balancing decision; each has a reason to be what it is."""

from __future__ import annotations

from dataclasses import dataclass

from balance.planning.record import Record
from balance.types import check_number


@dataclass(frozen=True, slots=True)
class PlanPolicy(Record):
    """How careful, how quick and how stingy the balancer is.

    Attributes
    ----------
    coverage : float
        How often the arrivals shall stay below the bound that capacity is made for.
    on_time : float
        Share of the requests that shall start soon enough for their objective.
    max_utilisation : float
        No replica is planned busier than this: near 1 every error of the rates becomes a queue.
    reservable : float
        Share of the cluster that models may reserve; the rest is for whoever comes unannounced.
    settle_s : float
        A need has to stay lower for so long before anything is given back (Kubernetes' stabilisation
        window): giving back costs a cold start when the need returns, keeping costs only idling.
    min_window_s : float
        Demand is judged over at least so long: counts of shorter windows are mostly chance.
    adapt : float
        Step of the adaptive conformal inference (gamma).
    memory_of_scores : int
        How many of the last scores the conformal quantile is taken from.
    min_evidence : int
        Windows that must have passed before a forecast can be demoted or promoted.
    demote_at, promote_at : float
        The forecast's loss over the reactive rule's at which it is demoted, and taken back.
    priority_ratio : float
        How much heavier one priority weighs than the next when there is not enough for all.
    max_replicas : int
        Of one model.
    prefetch_ahead_s : float
        Data is fetched when it is needed within its fetch time and so long.
    max_prefetches : int
        In one plan.
    memory_ceiling : float
        Measured use of a host's memory above which nothing grows and nothing is fetched ahead.
    batch_share : float
        Share of the objective that waiting for a batch to fill may take.
    """

    coverage: float = 0.9
    on_time: float = 0.95
    max_utilisation: float = 0.9
    reservable: float = 0.9
    settle_s: float = 60.0
    min_window_s: float = 5.0
    adapt: float = 0.02
    memory_of_scores: int = 100
    min_evidence: int = 10
    demote_at: float = 1.05
    promote_at: float = 0.95
    priority_ratio: float = 2.0
    max_replicas: int = 1000
    prefetch_ahead_s: float = 30.0
    max_prefetches: int = 8
    memory_ceiling: float = 0.92
    batch_share: float = 0.1

    def __post_init__(self) -> None:
        for name in ("coverage", "on_time", "max_utilisation"):
            check_number(name, getattr(self, name), minimum=0.01, maximum=0.999)
        for name in ("reservable", "memory_ceiling", "batch_share"):
            check_number(name, getattr(self, name), minimum=0, maximum=1)
        for name in ("settle_s", "min_window_s", "adapt", "prefetch_ahead_s", "max_prefetches"):
            check_number(name, getattr(self, name), minimum=0)
        for name in ("priority_ratio", "max_replicas", "memory_of_scores", "min_evidence"):
            check_number(name, getattr(self, name), minimum=1)
