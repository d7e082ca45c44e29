"""Scaling policies on a simulated clock: request rates in, replica-seconds and missed objectives out."""

from balance.simulation.scaling.demand import Demand
from balance.simulation.scaling.outcome import ScalingOutcome
from balance.simulation.scaling.policies import Balanced, Oracle, Scaling, TargetUtilisation
from balance.simulation.scaling.scene import Scene, simulate, simulate_all

__all__ = [
    "Balanced",
    "Demand",
    "Oracle",
    "Scaling",
    "ScalingOutcome",
    "Scene",
    "TargetUtilisation",
    "simulate",
    "simulate_all",
]
