"""The balancing decision: snapshot in, plan out, learnt from afterwards.

`plan`, `learn` and `explain` are pure functions over frozen records that go to JSON and back, so that a
recorded history can be replayed: the same snapshots give the same plans.
"""

from balance.planning.actions import (
    Action,
    Expectation,
    Prefetch,
    Release,
    RequestNodes,
    Reserve,
    SetParallelism,
    SetPriority,
    Throttle,
)
from balance.planning.decision import Decision, Plan
from balance.planning.explaining import explain
from balance.planning.learning import learn
from balance.planning.memory import Memory, ModelMemory, Tally
from balance.planning.outlook import Outlook
from balance.planning.planner import plan
from balance.planning.policy import PlanPolicy
from balance.planning.scaling import Observation, ScalerState, ScalingDecision, ScalingPolicy, scale
from balance.planning.situation import Situation
from balance.planning.snapshot import DataNeed, DemandForecast, HostState, ModelState, SchedulerState, Snapshot
from balance.planning.what_if import differences, suppose

__all__ = [
    "Action",
    "DataNeed",
    "Decision",
    "DemandForecast",
    "Expectation",
    "HostState",
    "Memory",
    "ModelMemory",
    "ModelState",
    "Observation",
    "Outlook",
    "Plan",
    "PlanPolicy",
    "Prefetch",
    "Release",
    "RequestNodes",
    "Reserve",
    "ScalerState",
    "ScalingDecision",
    "ScalingPolicy",
    "SchedulerState",
    "SetParallelism",
    "SetPriority",
    "Situation",
    "Snapshot",
    "Tally",
    "Throttle",
    "differences",
    "explain",
    "learn",
    "plan",
    "scale",
    "suppose",
]
