"""The policy for Ray Serve, on contexts as Serve makes them."""

from __future__ import annotations

import json
import math
import pickle
from types import SimpleNamespace

import pytest

from balance.adapters.serve import ServeScaling
from balance.errors import InvalidValue


class Deployment:
    """A deployment whose replicas take `start_s` to come, seen as Serve shows one to its policy."""

    def __init__(self, policy: ServeScaling, start_s: float = 40.0, low: int = 1, high: int = 30) -> None:
        self.policy, self.start_s, self.low, self.high = policy, start_s, low, high
        self.now, self.ready, self.target = 1000.0, low, low
        self.due: list[float] = []
        self.state: dict[str, object] = {}

    def tick(self, running: float, queued: float = 0.0, each: float = 2.0) -> int:
        """Let a second pass with so many requests ongoing; return the target."""
        self.now += 1.0
        self.ready += sum(due <= self.now for due in self.due)
        self.due = [due for due in self.due if due > self.now]
        context = SimpleNamespace(
            current_num_replicas=self.ready,
            target_num_replicas=self.target,
            capacity_adjusted_min_replicas=self.low,
            capacity_adjusted_max_replicas=self.high,
            current_time=self.now,
            config=SimpleNamespace(get_target_ongoing_requests=lambda: each),
            total_num_requests=running + queued,
            total_queued_requests=queued,
            policy_state=self.state,
        )
        target, self.state = self.policy(context)
        self.due += [self.now + self.start_s] * max(0, target - self.ready - len(self.due))
        self.ready = min(self.ready, target)
        self.due = self.due[: max(0, target - self.ready)]
        self.target = target
        return target


def test_replicas_follow_the_ongoing_requests():
    """Sixteen ongoing at two for each replica are eight replicas' worth: that many and a margin."""
    deployment = Deployment(ServeScaling())
    for _ in range(300):
        deployment.tick(running=16.0)
    assert 8 <= deployment.target <= 11
    assert json.loads(json.dumps(deployment.state)) == deployment.state


def test_the_cold_start_is_measured():
    """What starts really take replaces what was told."""
    policy = ServeScaling(cold_start_s=5.0)
    deployment = Deployment(policy, start_s=40.0)
    for second in range(400):
        deployment.tick(running=4.0 + second / 20)
    assert policy.cold_start_s == pytest.approx(40.0, abs=1.0)
    assert deployment.state["cold_start_s"] == policy.cold_start_s


def test_bounds_are_respected_and_silence_gives_back():
    """Never above the maximum, whatever queues; never below the minimum when nobody asks."""
    deployment = Deployment(ServeScaling(), low=2, high=6)
    for _ in range(60):
        assert 2 <= deployment.tick(running=12.0, queued=500.0) <= 6
    assert deployment.target == 6
    for _ in range(300):
        deployment.tick(running=0.0)
    assert deployment.target == 2


def test_from_zero_the_first_request_gets_a_replica_at_once():
    """A deployment that was scaled to zero does not wait for a bin to end."""
    deployment = Deployment(ServeScaling(bin_s=60.0), low=0)
    assert deployment.tick(running=0.0) == 0
    assert deployment.tick(running=0.0, queued=1.0) == 1


def test_a_growing_queue_is_demand():
    """Replicas that are all busy hide demand: what the queue grows by counts."""
    quiet, growing = (Deployment(ServeScaling(request_s=1.0)) for _ in range(2))
    for second in range(60):
        quiet.tick(running=2.0)
        growing.tick(running=2.0, queued=4.0 * second)
    assert growing.target > quiet.target + 2


def test_a_wave_that_was_seen_before_is_met_ahead():
    """On the fourth of equal waves, the target rises before the load does, by about the cold start."""
    policy = ServeScaling(season_s=600.0, bin_s=5.0, coverage=0.9)
    deployment = Deployment(policy, start_s=40.0)
    targets, load = [], []
    for second in range(4 * 600):
        running = 20.0 - 16.0 * math.cos(2 * math.pi * second / 600)
        load.append(running / 2)
        targets.append(deployment.tick(running))
    last = range(3 * 600 + 60, 3 * 600 + 300)
    # A tenth more than there is room for is what the queue may take within the objective.
    short = [load[second + 40] > 1.12 * targets[second] for second in last]
    assert sum(short) / len(short) < 0.1


def test_it_travels_by_pickle_as_serve_sends_it():
    """Serve pickles what it was given; the settings arrive."""
    assert pickle.loads(pickle.dumps(ServeScaling))(coverage=0.9).policy.coverage == 0.9


@pytest.mark.parametrize("wrong", [{"coverage": 1.0}, {"request_s": 0.0}, {"objective_s": -1.0}, {"lead": "me"}])
def test_settings_that_can_not_be_are_refused(wrong):
    """A wrong setting is told when the deployment is made, not at some later tick."""
    with pytest.raises(InvalidValue):
        ServeScaling(**wrong)


def test_serve_takes_it_by_its_name_and_calls_it_with_its_own_context():
    """What Serve does with a policy: import it by name, pickle it, build it with the settings, call it."""
    config = pytest.importorskip("ray.serve.config", reason="ray[serve] is not installed", exc_type=ImportError)
    from ray.serve._private.common import DeploymentID

    named = config.AutoscalingPolicy(
        policy_function="balance.adapters.serve:ServeScaling", policy_kwargs={"coverage": 0.9, "bin_s": 1.0}
    )
    policy = named.get_policy()(**named.policy_kwargs)
    settings = config.AutoscalingConfig(min_replicas=1, max_replicas=5, target_ongoing_requests=2, policy=named)
    target = 1
    for second in range(30):
        context = config.AutoscalingContext(
            deployment_id=DeploymentID("d", "a"),
            deployment_name="d",
            app_name="a",
            current_num_replicas=1,
            target_num_replicas=target,
            running_replicas=[],
            total_num_requests=lambda: 12.0,
            total_queued_requests=lambda: 2.0,
            aggregated_metrics={},
            raw_metrics={},
            capacity_adjusted_min_replicas=1,
            capacity_adjusted_max_replicas=5,
            policy_state={},
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=1000.0 + second,
            config=settings,
        )
        target, state = policy(context)
    assert target == 5
    assert state["load"] > 5
