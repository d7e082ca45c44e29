"""Ray Serve's own default policy, its code and its default delays, on simulated time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray.serve import autoscaling_policy
from ray.serve._private.common import DeploymentID
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from balance.planning.scaling import Observation


class ServeDefault:
    """What a deployment with ``target_ongoing_requests`` would be scaled to.

    Each replica works on one request at a time; what is ongoing is what runs and what waits, as Serve counts it.
    """

    def __init__(self, target_ongoing_requests: float, max_replicas: int = 200) -> None:
        self._config = AutoscalingConfig(
            min_replicas=1, max_replicas=max_replicas, target_ongoing_requests=target_ongoing_requests
        )
        # The public policy with what Serve wraps around every policy: factors, delays.
        self._policy = autoscaling_policy._apply_autoscaling_config(autoscaling_policy.default_autoscaling_policy)
        self._state: dict[str, Any] = {}
        self._target = 1
        self._limit = max_replicas

    def wants(self, seen: Observation) -> int:
        """Return what Serve's code decides, its clock being the simulation's."""
        clock, autoscaling_policy.time = autoscaling_policy.time, SimpleNamespace(time=lambda: seen.at)
        try:
            wanted, self._state = self._policy(self._context(seen))
        finally:
            autoscaling_policy.time = clock
        self._target = min(self._limit, max(1, wanted))
        return self._target

    def _context(self, seen: Observation) -> AutoscalingContext:
        busy = min(float(seen.ready), seen.recent_per_s(seen.step_s) * (seen.service_s or 0.0))
        if seen.queued > 0:
            busy = float(seen.ready)
        return AutoscalingContext(
            deployment_id=DeploymentID("model", "bench"),
            deployment_name="model",
            app_name="bench",
            current_num_replicas=seen.ready,
            target_num_replicas=self._target,
            running_replicas=[],
            total_num_requests=busy + seen.queued,
            total_queued_requests=seen.queued,
            aggregated_metrics={},
            raw_metrics={},
            capacity_adjusted_min_replicas=1,
            capacity_adjusted_max_replicas=self._limit,
            policy_state=dict(self._state),
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=seen.at,
            config=self._config,
        )
