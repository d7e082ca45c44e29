"""The few settings of the balancing decision; each has a reason to be what it is."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from balance.errors import InvalidValue
from balance.planning.record import Record
from balance.planning.scaling.policy import USUAL_SCALING, ScalingPolicy
from balance.types import check_number


@dataclass(frozen=True, slots=True)
class PlanPolicy(Record):
    """How careful, how quick and how stingy the balancer is.

    Attributes
    ----------
    scaling : ScalingPolicy
        How many replicas a model is to have, before it is compared with the others.
    max_utilisation : float
        A model that can't get its share lets in what keeps its replicas so busy.
    reservable : float
        Share of the cluster that models may reserve; the rest is for whoever comes unannounced.
    priority_ratio : float
        How much heavier one priority weighs than the next when there is not enough for all.
    prefetch_ahead_s : float
        Data is fetched when it is needed within its fetch time and so long.
    max_prefetches : int
        In one plan.
    memory_ceiling : float
        Measured use of a host's memory above which nothing grows and nothing is fetched ahead.
    batch_share : float
        Share of the objective that waiting for a batch to fill may take.
    lend : bool
        Whether a model may run beyond what it has reserved, on cores that nobody claims.
    """

    scaling: ScalingPolicy = USUAL_SCALING
    max_utilisation: float = 0.9
    reservable: float = 0.9
    priority_ratio: float = 2.0
    prefetch_ahead_s: float = 30.0
    max_prefetches: int = 8
    memory_ceiling: float = 0.92
    batch_share: float = 0.1
    lend: bool = True

    def __post_init__(self) -> None:
        check_number("max_utilisation", self.max_utilisation, minimum=0.01, maximum=0.999)
        for name in ("reservable", "memory_ceiling", "batch_share"):
            check_number(name, getattr(self, name), minimum=0, maximum=1)
        for name in ("prefetch_ahead_s", "max_prefetches"):
            check_number(name, getattr(self, name), minimum=0)
        check_number("priority_ratio", self.priority_ratio, minimum=1)

    def changed(self, **changes: Any) -> PlanPolicy:
        """Return the policy with other settings, its own or those of scaling, each by its name.

        Raises
        ------
        InvalidValue
            There is no such setting, or the value is not possible.

        Examples
        --------
        >>> PlanPolicy().changed(coverage=0.95, lend=False).scaling.coverage
        0.95
        """
        of_scaling = {each.name for each in fields(ScalingPolicy)}
        own = {each.name for each in fields(PlanPolicy)} - {"scaling"}
        if strange := sorted(changes.keys() - of_scaling - own):
            raise InvalidValue("policy", strange[0], "one of " + ", ".join(sorted(own | of_scaling)))
        scaling = replace(self.scaling, **{name: value for name, value in changes.items() if name in of_scaling})
        return replace(self, scaling=scaling, **{name: value for name, value in changes.items() if name in own})
