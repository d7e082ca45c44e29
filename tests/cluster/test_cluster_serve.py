"""Balance's scaling inside Ray Serve: a deployment that runs, its real controller, real replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.conftest import Balance, eventually


@pytest.fixture
def serve(ray_cluster: Balance) -> Iterator[Any]:
    """Run Ray Serve on the suite's Ray, without its proxy; nothing of it stays."""
    from ray import serve

    serve.start(proxy_location="Disabled")
    yield serve
    serve.shutdown()


def test_a_deployment_grows_with_its_requests_and_shrinks_after_them(serve: Any) -> None:
    """Serve builds the policy, its controller calls it, and replicas follow: to the most allowed, and back."""
    from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

    policy = AutoscalingPolicy(
        policy_function="balance.adapters.serve:ServeScaling",
        policy_kwargs={"bin_s": 0.5, "objective_s": 1.0, "cold_start_s": 1.0},
    )
    scaling = AutoscalingConfig(
        min_replicas=1,
        max_replicas=3,
        target_ongoing_requests=1,
        upscale_delay_s=0,
        downscale_delay_s=0,
        policy=policy,
    )

    @serve.deployment(autoscaling_config=scaling, max_ongoing_requests=2, ray_actor_options={"num_cpus": 0.01})
    class Lasting:
        """Answers when it is told to, and not before."""

        def __init__(self) -> None:
            self.over = asyncio.Event()

        async def __call__(self) -> str:
            await self.over.wait()
            return "answered"

        async def end(self) -> None:
            self.over.set()

    def running() -> int:
        states: dict[str, int] = serve.status().applications["lasting"].deployments["Lasting"].replica_states
        return int(states.get("RUNNING", 0))

    handle = serve.run(Lasting.bind(), name="lasting", route_prefix=None)
    assert running() == 1
    waiting = [handle.remote() for _ in range(6)]
    eventually(lambda: running() == 3, 120)
    for answer in waiting:
        answer.cancel()
    eventually(lambda: running() == 1, 120)
