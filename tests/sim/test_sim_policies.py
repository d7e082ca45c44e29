"""The policies as histories: what the scheduler promises, over minutes and hours of simulated work."""

from __future__ import annotations

import numpy as np
import pytest
from scenarios import delays, endless, later, named, relative_shares

from balance.core.scheduler.policy import SchedulingPolicy, Tenant
from balance.core.scheduler.spec import TaskSpec
from balance.simulation import (
    Cluster,
    Job,
    Simulation,
    constant,
    log_normal,
    merged,
    no_hint,
    true_hint,
    wrong_hint,
)
from balance.types import Resources

need = Resources.demand
TENANTS = (Tenant("a", weight=1), Tenant("b", weight=2), Tenant("c", weight=4))
WANTED = {"a": 1 / 7, "b": 2 / 7, "c": 4 / 7}

# ---------------------------------------------------------------- a big task behind small ones

HINTS = {"unknown": no_hint, "true": true_hint, "too short": wrong_hint(1.0, 0.3), "too long": wrong_hint(1.0, 3.0)}
LENGTHS = {"equal": (constant(10.0), 10.0), "log-normal": (log_normal(8.0, 0.6), 9.6)}


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("nodes", [1, 2, 8])
def test_a_big_task_starts_within_one_run_of_the_small_ones(nodes, lengths, hint):
    """Two devices behind an endless stream of one-device tasks: one run after its turn, over 90 % in use meanwhile."""
    drawn, mean_s = LENGTHS[lengths]
    for seed in range(2):
        small = endless("small", need(gpu=1), 2 * nodes * 1.3 / mean_s, drawn, seed, hint=HINTS[hint])
        big = [Job(100.0 + 60.0 * n, 20.0, TaskSpec(f"big-{n}", name="big", demand=need(gpu=2))) for n in range(8)]
        cluster = Cluster.of((nodes, Resources.capacity(cpu=8, gpu=2)))
        history = Simulation(cluster, merged(small, big)).run(until_s=600.0)
        waits = delays(history, "big")
        assert len(waits) >= 3
        for waited, longest in waits:
            assert waited <= longest + 1e-6, waits
        assert history.mean_utilisation("gpu", 60.0, 600.0) > 0.9


def test_an_urgent_big_task_starts_within_one_run_of_its_submission():
    """With a better priority it need not even wait for its turn."""
    small = endless("small", need(gpu=1), 0.5, constant(10.0), 1, priority=4)
    big = [Job(50.0 * n, 5.0, TaskSpec(f"big-{n}", demand=need(gpu=2), priority=1)) for n in range(1, 9)]
    history = Simulation(Cluster.parse("1x8cpu2gpu"), merged(small, big)).run(until_s=500.0)
    numbers = named(history, "big")
    assert np.all(history.started[numbers] - history.submitted[numbers] <= 10.0)


def test_a_gang_over_nodes_starts_behind_small_tasks():
    """Eight members with a device each, on four nodes, all or nothing: within one run after its turn."""
    small = endless("small", need(gpu=1), 8 * 1.2 / 10.0, constant(10.0), 3)
    gangs = [
        Job(100.0 * n, 15.0, TaskSpec(f"gang-{n}-{member}", demand=need(gpu=1), gang_id=f"gang-{n}", gang_size=8))
        for n in range(1, 5)
        for member in range(8)
    ]
    history = Simulation(Cluster.parse("4x8cpu2gpu"), merged(small, gangs)).run(until_s=800.0)
    for n in range(1, 5):
        started = history.started[named(history, f"gang-{n}-")]
        assert np.all(started == started[0]), "all at once"
        turn = max(history.started[: named(history, f"gang-{n}-")[0]].max(), 100.0 * n)
        assert started[0] - turn <= 10.0 + 1e-6
    assert history.mean_utilisation("gpu", 60.0, 600.0) > 0.9


# ---------------------------------------------------------------- tenants

MIXES = {
    "equal": {name: need(cpu=1) for name in "abc"},
    "mixed": {
        "a": need(cpu=2, memory=2**30),
        "b": need(cpu=1, memory=6 * 2**30),
        "c": need(cpu=1, memory=2**30),
    },
}


@pytest.mark.parametrize("chunk_s", [0.0, 0.5])
@pytest.mark.parametrize(
    ("nodes", "mix", "lengths"),
    [
        ("7x8cpu32gib", "equal", constant(5.0)),
        ("7x8cpu32gib", "equal", log_normal(4.0, 0.8)),
        ("5x9cpu32gib", "mixed", log_normal(4.0, 0.8)),
        ("1x2cpu8gib", "equal", constant(0.5)),
        ("1x3cpu8gib", "equal", log_normal(0.4, 0.8)),
        ("7x8cpu32gib", "equal", constant(0.05)),
    ],
)
def test_long_run_shares_follow_the_weights(nodes, mix, lengths, chunk_s):
    """Weights 1:2:4 and endless work: dominant shares within 3 %, in large pieces and small, in chunks or not."""
    cluster = Cluster.parse(nodes)
    cores = sum(capacity.cpu for _, capacity in cluster.nodes)
    mean_s = float(np.mean([next(lengths(np.random.default_rng(seed))) for seed in range(50)]))
    streams = [endless(n, d, 1.5 * cores / mean_s, lengths, 5, tenant=n) for n, d in MIXES[mix].items()]
    policy = SchedulingPolicy(tenants=TENANTS, chunk_s=chunk_s)
    history = Simulation(cluster, merged(*streams), policy=policy).run(until_s=110.0 * mean_s)
    shares = relative_shares(history, 10.0 * mean_s, 110.0 * mean_s)
    assert shares == pytest.approx(WANTED, rel=0.03)


@pytest.mark.parametrize("preemptible", [False, True])
def test_an_idle_share_is_lent_and_comes_back_within_one_task(preemptible):
    """Alone, a tenant has all there is; one task length after the other came back that one has its share."""
    lent = endless("a", need(cpu=1), 7.0, constant(10.0), 1, tenant="a", preemptible=preemptible)
    back = later(endless("c", need(cpu=1), 7.0, constant(10.0), 2, tenant="c", preemptible=preemptible), 200.0)
    policy = SchedulingPolicy(tenants=TENANTS)
    history = Simulation(Cluster.parse("7x8cpu"), merged(lent, back), policy=policy).run(until_s=400.0)
    assert history.dominant_shares(100.0, 200.0)["a"] > 0.99
    assert history.dominant_shares(210.0, 220.0)["c"] > 0.75, "it should have 0.8"
    assert relative_shares(history, 250.0, 400.0) == pytest.approx({"a": 0.2, "c": 0.8}, rel=0.03)
    assert history.mean_utilisation("cpu", 100.0, 400.0) > 0.99


# ---------------------------------------------------------------- aging


def test_background_work_starts_in_bounded_time():
    """Behind an endless stream of priority 1, priority 5 starts once it has waited four levels' worth of aging."""
    urgent = endless("urgent", need(cpu=1), 4 * 1.05, constant(1.0), 1, priority=1)
    patient = [Job(30.0 * n, 1.0, TaskSpec(f"patient-{n}", priority=5)) for n in range(1, 11)]
    policy = SchedulingPolicy(aging_step_s=20.0)
    history = Simulation(Cluster.parse("1x4cpu"), merged(urgent, patient), policy=policy).run(until_s=600.0)
    numbers = named(history, "patient")
    waited = history.started[numbers] - history.submitted[numbers]
    backlog_s = 600.0 * 0.05  # how late the newest urgent task is when all before it go first
    assert not np.isnan(waited).any() and waited.max() <= 4 * 20.0 + backlog_s
    assert waited.min() > 20.0, "it did wait behind the urgent ones"
