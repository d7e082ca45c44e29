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
from balance.planning.calibration import Calibration, Guess
from balance.planning.decision import Decision, Plan
from balance.planning.explaining import explain
from balance.planning.learning import learn
from balance.planning.memory import Memory, ModelMemory, Tally, Wager
from balance.planning.outlook import Outlook
from balance.planning.planner import plan
from balance.planning.policy import PlanPolicy
from balance.planning.situation import Situation
from balance.planning.snapshot import DataNeed, DemandForecast, HostState, ModelState, SchedulerState, Snapshot
from balance.planning.what_if import differences, suppose

__all__ = [
    "Action",
    "Calibration",
    "DataNeed",
    "Decision",
    "DemandForecast",
    "Expectation",
    "Guess",
    "HostState",
    "Memory",
    "ModelMemory",
    "ModelState",
    "Outlook",
    "Plan",
    "PlanPolicy",
    "Prefetch",
    "Release",
    "RequestNodes",
    "Reserve",
    "SchedulerState",
    "SetParallelism",
    "SetPriority",
    "Situation",
    "Snapshot",
    "Tally",
    "Throttle",
    "Wager",
    "differences",
    "explain",
    "learn",
    "plan",
    "suppose",
]
