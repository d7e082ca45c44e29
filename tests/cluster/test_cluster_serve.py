"""Ray Serve with Balance's policy: a real deployment grows with what is asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.cluster


def test_a_deployment_is_scaled_by_balance(ray_cluster: ModuleType, eventually: Callable[..., Any]) -> None:
    """Six requests that last, one for each replica: as many replicas run as its bounds allow."""
    serve = pytest.importorskip("ray.serve", reason="ray[serve] is not installed", exc_type=ImportError)
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

    policy = AutoscalingPolicy(
        policy_function="balance.adapters.serve:ServeScaling",
        policy_kwargs={"bin_s": 0.5, "objective_s": 1.0, "cold_start_s": 1.0},
    )

    @serve.deployment(
        max_ongoing_requests=10,
        ray_actor_options={"num_cpus": 0.01},
        autoscaling_config=AutoscalingConfig(
            min_replicas=1,
            max_replicas=3,
            target_ongoing_requests=1,
            upscale_delay_s=0,
            downscale_delay_s=0,
            metrics_interval_s=0.2,
            look_back_period_s=1.0,
            policy=policy,
        ),
    )
    class Lasting:
        async def __call__(self) -> None:
            await asyncio.Event().wait()

    def running() -> int:
        found = serve.status().applications["lasting"].deployments["Lasting"].replica_states
        return sum(count for state, count in found.items() if "RUNNING" in str(state))

    serve.start(proxy_location="Disabled")
    try:
        handle = serve.run(Lasting.bind(), name="lasting", route_prefix=None)
        waiting = [handle.remote() for _ in range(6)]
        eventually(lambda: running() == 3, timeout_s=60.0)
        assert len(waiting) == 6
    finally:
        serve.shutdown()
