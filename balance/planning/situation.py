"""Everything that a plan is made from, as one value: it can be kept, sent and planned from again."""

from __future__ import annotations

from dataclasses import dataclass

from balance.planning.decision import Plan
from balance.planning.memory import Memory
from balance.planning.planner import plan
from balance.planning.policy import PlanPolicy
from balance.planning.record import Record
from balance.planning.snapshot import Snapshot

NOTHING_LEARNT = Memory()
USUAL = PlanPolicy()


@dataclass(frozen=True, slots=True)
class Situation(Record):
    """What was seen, what had been learnt by then, and how careful to be.

    Attributes
    ----------
    snapshot : Snapshot
        The cluster and its models at one moment.
    memory : Memory
        What was learnt until then.
    policy : PlanPolicy
        The settings of the decision.

    Examples
    --------
    >>> seen = Situation(Snapshot(7, 0.0))
    >>> Situation.from_dict(seen.to_dict()).plan() == seen.plan()
    True
    """

    snapshot: Snapshot
    memory: Memory = NOTHING_LEARNT
    policy: PlanPolicy = USUAL

    def plan(self) -> Plan:
        """Return the plan: the same at every call, on any machine."""
        return plan(self.snapshot, self.memory, self.policy)
