"""Scaling with forecasts: one pure decision for the balancing loop, the simulator and Ray Serve.

`scale` takes an observation and what it knew, and returns a decision and what it knows; everything is a frozen
record that goes to JSON and back.
"""

from balance.planning.scaling.decision import ScalingDecision
from balance.planning.scaling.fleet import Fleet
from balance.planning.scaling.guard import Guard, Shadow
from balance.planning.scaling.guess import Expectations, Guess
from balance.planning.scaling.margin import Margin
from balance.planning.scaling.observation import Observation
from balance.planning.scaling.policy import ScalingPolicy
from balance.planning.scaling.rates import Rates
from balance.planning.scaling.regression import Regression
from balance.planning.scaling.scaler import scale
from balance.planning.scaling.state import Need, Reach, ScalerState

__all__ = [
    "Expectations",
    "Fleet",
    "Guard",
    "Guess",
    "Margin",
    "Need",
    "Observation",
    "Rates",
    "Reach",
    "Regression",
    "ScalerState",
    "ScalingDecision",
    "ScalingPolicy",
    "Shadow",
    "scale",
]
