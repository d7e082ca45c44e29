"""Balance's scaling for a Ray Serve deployment, in place of Serve's own policy.

    from ray import serve
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

    @serve.deployment(
        autoscaling_config=AutoscalingConfig(
            min_replicas=1,
            max_replicas=40,
            target_ongoing_requests=2,
            upscale_delay_s=0,
            downscale_delay_s=0,
            policy=AutoscalingPolicy(
                policy_function="balance.adapters.serve:ServeScaling",
                policy_kwargs={"coverage": 0.95, "request_s": 0.2},
            ),
        )
    )
    class Model: ...

The decision is the one of the balancing loop and of the simulator (`balance.planning.scale`).  Serve counts
ongoing requests, not arrivals, so demand is counted in replicas' worth of work: what runs, over
``target_ongoing_requests``, and what the queue grew by.  The cold start is measured: from the moment that a
replica is asked for to the one that it runs.  Serve's own delays come on top of the decision's damping; 0 leaves
them out.  This module does not import Ray: Serve calls it with its context.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, Dict, Protocol, Tuple

import numpy as np

from balance.planning.scaling import Observation, ScalerState, ScalingDecision, ScalingPolicy, scale
from balance.types import check_number

_STARTS_KEPT = 50


class _Config(Protocol):
    def get_target_ongoing_requests(self) -> float: ...


class ServeContext(Protocol):
    """The part of Ray Serve's ``AutoscalingContext`` that is read."""

    current_num_replicas: int
    target_num_replicas: int
    capacity_adjusted_min_replicas: int
    capacity_adjusted_max_replicas: int
    current_time: float | None
    config: _Config | None

    @property
    def total_num_requests(self) -> float:
        """Requests that run or wait."""

    @property
    def total_queued_requests(self) -> float:
        """Requests that wait."""


class ServeScaling:
    """A policy for ``AutoscalingPolicy``; Serve builds it once for each deployment and calls it again and again.

    Parameters
    ----------
    coverage : float
        How often capacity shall suffice: the one knob.
    objective_s : float
        How long a request may take until it is begun.
    request_s : float
        How long a request takes on a replica; it says how much work a queue is.
    cold_start_s : float
        Taken for the time of a start until starts were measured.
    bin_s : float
        Demand is counted, and decided about, every so many seconds.
    season_s : float
        After how long demand looks alike.
    lead : str
        ``auto``, ``forecast`` or ``reactive``, as in `ScalingPolicy`.

    Examples
    --------
    >>> policy = ServeScaling(coverage=0.95)
    >>> policy.cold_start_s
    30.0
    """

    def __init__(
        self,
        *,
        coverage: float = 0.95,
        objective_s: float = 10.0,
        request_s: float = 1.0,
        cold_start_s: float = 30.0,
        bin_s: float = 10.0,
        season_s: float = 86_400.0,
        lead: str = "auto",
    ) -> None:
        self.policy = ScalingPolicy(
            coverage=coverage,
            bin_s=bin_s,
            window_s=4 * bin_s,
            drain_s=4 * bin_s,
            settle_s=4 * bin_s,
            season_s=season_s,
            lead=lead,
            min_replicas=0,
            max_replicas=100_000,
        )
        self.objective_s = check_number("objective_s", objective_s, minimum=1e-3)
        self.request_s = check_number("request_s", request_s, minimum=1e-6)
        self.state = ScalerState()
        self.decision: ScalingDecision | None = None
        self._told_cold_start_s = check_number("cold_start_s", cold_start_s, minimum=0)
        self._starts: deque[float] = deque(maxlen=_STARTS_KEPT)
        self._asked: deque[float] = deque()
        self._replicas = -1
        self._bin_ends: float | None = None
        self._before: float | None = None
        self._work_s = 0.0
        self._queued = 0.0

    @property
    def cold_start_s(self) -> float:
        """The 0.9 quantile of the measured starts, or what was told while there are none."""
        return float(np.quantile(self._starts, 0.9)) if self._starts else self._told_cold_start_s

    def __call__(self, ctx: ServeContext) -> Tuple[int, Dict[str, Any]]:
        """Return how many replicas there shall be, and on which numbers (shown by Serve as the policy's state).

        Returns
        -------
        tuple of (int, dict)
            The number, within the deployment's bounds, and ``source``, ``floor``, ``load`` (replicas' worth of
            work that capacity is made for), ``cold_start_s``, ``mode`` (who leads, by the guard); all JSON.
        """
        assert ctx.current_time is not None, "Serve tells the time"
        now = ctx.current_time
        self._measure_starts(ctx, now)
        self._count(ctx, now)
        target = ctx.target_num_replicas
        if self.decision is not None:
            target = self.decision.replicas
        if ctx.total_num_requests > 0:
            target = max(1, target)
        target = min(ctx.capacity_adjusted_max_replicas, max(ctx.capacity_adjusted_min_replicas, target))
        self._order(target, ctx, now)
        return target, self._shown()

    def _count(self, ctx: ServeContext, now: float) -> None:
        """Add the work that came since the last call; decide when a bin is over."""
        each = ctx.config.get_target_ongoing_requests() if ctx.config is not None else 1.0
        queued = max(0.0, ctx.total_queued_requests or 0.0)
        running = max(0.0, ctx.total_num_requests - queued)
        weight_s = self.request_s / each
        if self._before is None or self._bin_ends is None:
            self._bin_ends = math.floor(now / self.policy.bin_s + 1) * self.policy.bin_s
        else:
            # What was worked on came, and what the queue grew by came on top of it.
            grown = (queued - self._queued) * weight_s
            self._work_s += max(0.0, running / each * (now - self._before) + grown)
        self._before, self._queued = now, queued
        if now < self._bin_ends:
            return
        bin_s = self.policy.bin_s
        passed = math.floor((now - self._bin_ends) / bin_s)
        end = self._bin_ends + passed * bin_s
        seen = Observation(
            end,
            (self._work_s / (passed + 1),) * (passed + 1),
            bin_s,
            queued=queued * weight_s,
            running=math.ceil(running),
            ready=ctx.current_num_replicas,
            starting=max(0, ctx.target_num_replicas - ctx.current_num_replicas),
            service_s=1.0,  # demand is counted in replica-seconds
            cold_start_s=self.cold_start_s,
            # Erlang's formula is about requests, of which the queue holds so many in the time of the objective.
            objective_s=max(self.objective_s, 1.0),
        )
        self.decision, self.state = scale(seen, self.state, self.policy)
        self._work_s, self._bin_ends = 0.0, end + bin_s

    def _measure_starts(self, ctx: ServeContext, now: float) -> None:
        """Take the time of each replica that has come since the last call; the first asked for comes first."""
        if self._replicas >= 0:
            for _ in range(ctx.current_num_replicas - self._replicas):
                if self._asked:
                    self._starts.append(now - self._asked.popleft())
        self._replicas = ctx.current_num_replicas

    def _order(self, target: int, ctx: ServeContext, now: float) -> None:
        """Note when the replicas that are on their way were asked for."""
        missing = max(0, target - ctx.current_num_replicas)
        while len(self._asked) > missing:
            self._asked.pop()
        while len(self._asked) < missing:
            self._asked.append(now)

    def _shown(self) -> Dict[str, Any]:
        if self.decision is None:
            return {"source": "waiting for the first bin", "cold_start_s": self.cold_start_s}
        return {
            "source": self.decision.source,
            "floor": self.decision.floor,
            "load": self.decision.load,
            "cold_start_s": self.cold_start_s,
            "mode": self.state.guard.mode,
        }
