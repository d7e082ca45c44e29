"""Who may decide in the simulator: Balance's own decision, and those it is compared with."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import numpy as np

from balance.planning.scaling import Observation, ScalerState, ScalingPolicy, scale
from balance.planning.scaling.policy import USUAL_SCALING
from balance.simulation.scaling.demand import Demand
from balance.types import check_number


class Scaling(Protocol):
    """Decides at every step how many replicas there shall be."""

    def wants(self, seen: Observation) -> int:
        """Return the number, from what is seen at the step's beginning."""


class Balanced:
    """The decision that Balance makes everywhere.

    Attributes
    ----------
    policy : ScalingPolicy
        Its settings.
    state : ScalerState
        What it knows by now.
    """

    def __init__(self, policy: ScalingPolicy = USUAL_SCALING, state: ScalerState | None = None) -> None:
        self.policy = policy
        self.state = state if state is not None else ScalerState()

    def wants(self, seen: Observation) -> int:
        """Return what `balance.planning.scale` decides."""
        decision, self.state = scale(seen, self.state, self.policy)
        return decision.replicas


class TargetUtilisation:
    """The load of late over a target utilisation, as most autoscalers have it.

    Parameters
    ----------
    target : float
        How busy replicas shall be; 0.8 leaves a fifth idle.
    smooth_s : float
        Time constant of the load's exponential mean; 0 takes the last step.
    hold_s : float
        The number follows a lower need only after so long (a stabilisation window).
    drain_s : float
        A queue adds what would drain it in so long; 0 ignores it.
    """

    def __init__(self, target: float, *, smooth_s: float = 0.0, hold_s: float = 0.0, drain_s: float = 0.0) -> None:
        self.target = check_number("target", target, minimum=1e-3)
        self.smooth_s = check_number("smooth_s", smooth_s, minimum=0)
        self.hold_s = check_number("hold_s", hold_s, minimum=0)
        self.drain_s = check_number("drain_s", drain_s, minimum=0)
        self._load: float | None = None
        self._needs: deque[tuple[float, int]] = deque()

    def wants(self, seen: Observation) -> int:
        """Return the load over the target, held."""
        service_s = seen.service_s or 0.0
        load = seen.recent_per_s(seen.step_s) * service_s
        share = 1.0 - math.exp(-seen.step_s / self.smooth_s) if self.smooth_s else 1.0
        self._load = load if self._load is None else self._load + share * (load - self._load)
        queue = seen.queued * service_s / self.drain_s if self.drain_s else 0.0
        need = max(1, math.ceil((self._load + queue) / self.target - 1e-9))
        while self._needs and self._needs[-1][1] <= need:
            self._needs.pop()
        self._needs.append((seen.at, need))
        while self._needs[0][0] < seen.at - self.hold_s - 1e-6:
            self._needs.popleft()
        return self._needs[0][1]


class Oracle:
    """Knows what will come, and has capacity for exactly that: no policy can miss as little for less.

    Parameters
    ----------
    demand : Demand
        The future.
    service_s, cold_start_s : float
        Of a request; of a replica.
    spare : float
        Replicas beyond the mean load of the minute.
    """

    def __init__(self, demand: Demand, service_s: float, cold_start_s: float, spare: float = 0.0) -> None:
        load = np.array(demand.rates) * service_s
        need = np.maximum(1, np.ceil(load + spare - 1e-9))
        ahead = math.ceil(cold_start_s / demand.step_s - 1e-9) + 1
        padded = np.concatenate([need, np.full(ahead, need[-1])])
        self._wanted = np.lib.stride_tricks.sliding_window_view(padded, ahead + 1)[: len(need)].max(axis=1)
        self._step_s = demand.step_s

    def wants(self, seen: Observation) -> int:
        """Return the most that is needed before a replica could come back."""
        step = min(len(self._wanted) - 1, round(seen.at / self._step_s))
        return int(self._wanted[step])
