"""The simulated world of a scaling policy: demand comes, replicas take their time to start, requests wait.

At the beginning of each step the policy sees what came in the last one, the queue and the replicas, and says
how many there shall be.  Starting takes the cold start, drawn anew for each order where it has a spread;
what is given back is gone at once, what was still starting first.  Requests are a fluid, or come in Poisson
numbers, and are served in order of arrival by replicas that take `service_s` each.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np

from balance.errors import InvalidValue
from balance.planning.scaling import Fleet, Observation
from balance.simulation.scaling.demand import Demand
from balance.simulation.scaling.outcome import Crowd, ScalingOutcome
from balance.simulation.scaling.policies import Scaling
from balance.types import check_number

_STARTS_KEPT = 50
_PARTS_OF_OBJECTIVE = 2


@dataclass(frozen=True, slots=True)
class Scene:
    """What is the same for every policy.

    Attributes
    ----------
    demand : Demand
        What comes.
    cold_start_s : float
        Median seconds from an order to a replica that answers.
    cold_spread : float
        Standard deviation of the logarithm of that; 0 for always the same.
    service_s : float
        Seconds of a replica for one request.
    objective_s : float
        A request that waits longer is a miss.
    warm_up_s : float
        So much at the beginning is lived through but not counted.
    poisson : bool
        Whether requests come in Poisson numbers instead of as a fluid.
    seed : int
        Of all chance.
    """

    demand: Demand
    cold_start_s: float = 300.0
    cold_spread: float = 0.0
    service_s: float = 0.1
    objective_s: float = 10.0
    warm_up_s: float = 0.0
    poisson: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("cold_start_s", "cold_spread", "warm_up_s"):
            check_number(name, getattr(self, name), minimum=0)
        for name in ("service_s", "objective_s"):
            check_number(name, getattr(self, name), minimum=1e-6)
        if self.warm_up_s >= len(self.demand.rates) * self.demand.step_s:
            raise InvalidValue("warm_up_s", self.warm_up_s, "less than the demand lasts")


def simulate(
    scene: Scene, policy: Scaling, on_step: Optional[Callable[[int, int, float], None]] = None
) -> ScalingOutcome:
    """Run a policy through a scene; the same scene and policy give the same outcome.

    Parameters
    ----------
    scene : Scene
        Demand, cold start, objective.
    policy : Scaling
        Who decides.
    on_step : callable, optional
        Called after each step with its index, the replicas that were ready, and the requests that wait.

    Examples
    --------
    >>> from balance.simulation.scaling import TargetUtilisation
    >>> steady = Scene(Demand((100.0,) * 240), cold_start_s=60.0, warm_up_s=900.0)
    >>> made = simulate(steady, TargetUtilisation(0.8))
    >>> made.missed, made.cost, made.peak
    (0.0, 1.3, 13)
    """
    world = _World(scene)
    for index in world.steps(policy):
        if on_step is not None:
            on_step(index, world.fleet.ready, world.crowd.waiting)
    return world.outcome()


def simulate_all(scene: Scene, policies: Sequence[Scaling]) -> list[ScalingOutcome]:
    """Run policies through a scene beside one another, step by step, each in a world of its own.

    Every outcome is what `simulate` returns for that policy alone.  Policies that look ahead in the same way can share
    what they foresee, since all are at the same step.

    Examples
    --------
    >>> from balance.simulation.scaling import TargetUtilisation
    >>> steady = Scene(Demand((100.0,) * 240), cold_start_s=60.0, warm_up_s=900.0)
    >>> [made.peak for made in simulate_all(steady, [TargetUtilisation(0.8), TargetUtilisation(0.5)])]
    [13, 20]
    """
    worlds = [_World(scene) for _ in policies]
    for _ in zip(*(world.steps(policy) for world, policy in zip(worlds, policies, strict=True)), strict=True):
        pass
    return [world.outcome() for world in worlds]


class _World:
    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.rng = np.random.default_rng(scene.seed)
        step_s = scene.demand.step_s
        self.parts = max(1, math.ceil(step_s * _PARTS_OF_OBJECTIVE / scene.objective_s - 1e-9))
        self.part_s = step_s / self.parts
        self.crowd = Crowd(max(1, round(scene.objective_s / self.part_s)))
        self.fleet = Fleet(max(1, math.ceil(scene.demand.rates[0] * scene.service_s)))
        self.starts: deque[float] = deque(maxlen=_STARTS_KEPT)
        self.cold_start_s = scene.cold_start_s
        self.missed = self.requests = self.paid = 0.0
        self.peak = self.changes = 0

    def steps(self, policy: Scaling) -> Iterator[int]:
        """Live through every step; yield its index after each."""
        step_s = self.scene.demand.step_s
        came = 0.0
        for index, rate in enumerate(self.scene.demand.rates):
            now = index * step_s
            self.fleet = self.fleet.at(now)
            if index:
                self._obey(policy.wants(self._seen(now, came)), now)
            came = self._step(rate, now >= self.scene.warm_up_s)
            yield index

    def outcome(self) -> ScalingOutcome:
        """Return the figures of what was lived through."""
        return ScalingOutcome(
            self.requests,
            self.missed,
            self.paid,
            self.requests * self.scene.service_s,
            self.peak,
            self.changes,
            self.crowd.waiting,
        )

    def _seen(self, now: float, came: float) -> Observation:
        return Observation(
            now,
            (came,),
            self.scene.demand.step_s,
            queued=self.crowd.waiting,
            ready=self.fleet.ready,
            starting=self.fleet.starting,
            service_s=self.scene.service_s,
            cold_start_s=self.cold_start_s,
            objective_s=self.scene.objective_s,
        )

    def _obey(self, wanted: int, now: float) -> None:
        if wanted == self.fleet.ready + self.fleet.starting:
            return
        self.changes += 1
        start_s = self.scene.cold_start_s
        if self.scene.cold_spread > 0:
            start_s *= math.exp(self.scene.cold_spread * self.rng.normal())
            if wanted > self.fleet.ready + self.fleet.starting:
                self.starts.append(start_s)
                self.cold_start_s = float(np.quantile(self.starts, 0.9))
        self.fleet = self.fleet.towards(wanted, now, start_s)

    def _step(self, rate: float, counted: bool) -> float:
        total = 0.0
        capacity = self.fleet.ready * self.part_s / self.scene.service_s
        for _ in range(self.parts):
            expected = rate * self.part_s
            came = float(self.rng.poisson(expected)) if self.scene.poisson else expected
            late = self.crowd.after(came, capacity)
            total += came
            if counted:
                self.missed += late
                self.requests += came
        size = self.fleet.ready + self.fleet.starting
        self.peak = max(self.peak, size)
        if counted:
            self.paid += size * self.scene.demand.step_s
        return total
