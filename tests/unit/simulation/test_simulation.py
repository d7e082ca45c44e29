"""The simulated clock, cluster and workers: exact where it can be worked out by hand, the same on every run."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from balance.clock import FakeClock
from balance.core.scheduler.events import NodeJoined, TaskFinished, TaskReturned, TaskStopped
from balance.core.scheduler.instructions import StartChunk, StartTask
from balance.core.scheduler.policy import SchedulingPolicy
from balance.core.scheduler.spec import TaskSpec
from balance.core.scheduler.states import State
from balance.core.scheduler.task_scheduler import TaskScheduler
from balance.errors import Conflict, InvalidValue
from balance.simulation import (
    Change,
    Cluster,
    Job,
    Simulation,
    Stream,
    Workers,
    bursty,
    constant,
    diurnal,
    log_normal,
    merged,
    poisson,
    sampled,
    wrong_hint,
)
from balance.types import Resources

ONE = Resources.demand(cpu=1)
CORE = Resources.capacity(cpu=1)


def job(name: str, at_s: float, run_s: float, **spec: object) -> Job:
    return Job(at_s, run_s, TaskSpec(name, **spec))  # type: ignore[arg-type]


def random_run(seed: int, chunk_s: float = 0.0):
    """A busy little cluster with failures, tenants, priorities and guesses."""
    streams = [
        Stream(
            TaskSpec(f"s{n}", name=f"s{n}", demand=Resources.demand(cpu=n + 1), priority=n + 2, tenant=f"t{n % 2}"),
            poisson(0.4),
            log_normal(5.0, 0.8),
            wrong_hint(0.5),
            count=60,
            seed=seed + n,
        )
        for n in range(3)
    ]
    cluster = Cluster.parse("3x4cpu").failing(mtbf_s=100.0, repair_s=10.0, until_s=100.0, seed=seed)
    simulation = Simulation(cluster, merged(*streams), policy=SchedulingPolicy(chunk_s=chunk_s))
    history = simulation.run()
    simulation.engine.validate()
    return history


# ---------------------------------------------------------------- the loop


def test_a_run_worked_out_by_hand():
    """One core, three tasks: who starts when, who waits how long, what is in use."""
    jobs = [job("a", 0.0, 4.0), job("b", 1.0, 2.0, priority=5), job("c", 2.0, 3.0, priority=1)]
    history = Simulation(Cluster.of((1, CORE)), jobs).run(until_s=10.0)
    assert history.started.tolist() == [0.0, 7.0, 4.0]
    assert history.finished.tolist() == [4.0, 9.0, 7.0]
    assert history.mean_utilisation("cpu") == pytest.approx(0.9)
    assert [row["p50_s"] for row in history.waits().values()] == [2.0, 0.0, 6.0]
    when, length = history.queue_length()
    assert dict(zip(when.tolist(), length.tolist(), strict=True))[2.0] == 2.0
    assert history.in_state(State.COMPLETED) == 3 and history.makespan_s == 9.0


@pytest.mark.parametrize("chunk_s", [0.0, 20.0])
def test_the_same_seed_makes_the_same_history(chunk_s):
    """To the last digit, whatever fails meanwhile; another seed makes another one."""
    assert random_run(7, chunk_s).digest() == random_run(7, chunk_s).digest() != random_run(8, chunk_s).digest()


@pytest.mark.parametrize("seed", range(5))
def test_nobody_holds_more_than_there_is(seed):
    """On no node, at no moment, do running attempts add up to more than its capacity; every task completes."""
    history = random_run(seed)
    assert history.in_state(State.COMPLETED) == len(history.task_ids) == 180
    cores = history.demand[history.attempt_task, 0]
    for node in range(len(history.nodes)):
        mine = history.attempt_node == node
        moments = np.concatenate((history.attempt_begun[mine], history.attempt_ended[mine]))
        order = np.lexsort((np.repeat([1, 0], mine.sum()), moments))  # what ends at a moment ends before what begins
        held = np.cumsum(np.concatenate((cores[mine], -cores[mine]))[order])
        assert held.max() <= 4000 and held[-1] == 0


def test_a_lost_node_loses_its_work_and_the_tasks_run_again():
    """What ran there is counted as run in vain, and starts again elsewhere."""
    cluster = Cluster.of((2, CORE))
    cluster = Cluster(cluster.nodes, (Change(3.0, "n0", None), Change(8.0, "n0", CORE)))
    history = Simulation(cluster, [job("a", 0.0, 5.0), job("b", 0.0, 10.0)]).run()
    assert sorted(history.attempts.tolist()) == [1, 2]
    assert history.lost_work() == {"attempts": 1, "core_s": 3.0, "gpu_s": 0.0}
    assert history.in_state(State.COMPLETED) == 2
    assert history.capacity[:, 0].tolist() == [2000, 1000, 2000]


def test_an_endless_stream_ends_when_it_is_told_to():
    """Jobs are read as time goes on; what runs at the end is running, what waits is queued."""
    history = Simulation(Cluster.of((1, CORE)), Stream(TaskSpec("s"), poisson(2.0), constant(1.0))).run(until_s=50.0)
    assert history.end_s == 50.0 and 70 < len(history.task_ids) < 130
    assert history.in_state(State.RUNNING) == 1 and history.in_state(State.QUEUED) > 20
    assert np.isnan(history.started[-1])


def test_deadlines_and_timeouts_come_true_on_the_simulated_clock():
    """A timeout stops an attempt, a deadline ends a task, at exactly its moment."""
    jobs = [job("slow", 0.0, 99.0, timeout_s=5.0), job("late", 0.0, 1.0, deadline=3.0)]
    history = Simulation(Cluster.of((1, CORE)), jobs).run()
    assert history.finished.tolist() == [5.0, 3.0] and history.in_state(State.TIMED_OUT) == 2


def test_the_observer_sees_the_engine_in_between():
    """It is called at its moments while there is work, with the engine as it is then."""
    seen = []
    simulation = Simulation(Cluster.of((1, CORE)), [job("a", 0.0, 5.0), job("b", 0.0, 5.0)])
    simulation.run(observer=lambda engine, now: seen.append((now, engine.task("b").state)), observe_every_s=2.0)
    assert seen == [(2.0, "queued"), (4.0, "queued"), (6.0, "running"), (8.0, "running")]


# ---------------------------------------------------------------- mistakes


def test_jobs_out_of_order_are_refused():
    """Time does not run backwards."""
    with pytest.raises(InvalidValue, match="in order of time"):
        Simulation(Cluster.of((1, CORE)), [job("a", 5.0, 1.0), job("b", 4.0, 1.0)]).run()


def test_a_job_that_comes_twice_is_refused():
    """As the scheduler refuses it."""
    with pytest.raises(Conflict):
        Simulation(Cluster.of((1, CORE)), [job("a", 0.0, 9.0), job("a", 1.0, 1.0)]).run()


def test_a_simulation_runs_once():
    """Its engine has lived its life."""
    simulation = Simulation(Cluster.of((1, CORE)), [])
    simulation.run()
    with pytest.raises(InvalidValue, match="new Simulation"):
        simulation.run()


@pytest.mark.parametrize("text", ["", "8", "x8cpu", "2x8cores", "2x8cpu4cpu", "0x8cpu", "2x8cpu,,", "200000x1cpu"])
def test_nodes_that_can_not_be_read_are_refused(text):
    """With what was expected."""
    with pytest.raises(InvalidValue):
        Cluster.parse(text)


# ---------------------------------------------------------------- workloads


@pytest.mark.parametrize("arrivals", [poisson(5.0), bursty(5.0, burst_s=3.0, calm_s=9.0), diurnal(5.0, period_s=100.0)])
def test_arrivals_keep_their_mean_rate(arrivals):
    """Whatever their rhythm, over time as many come as were asked for, never backwards in time."""
    moments = list(islice(arrivals(np.random.default_rng(3)), 20_000))
    assert moments == sorted(moments)
    assert len(moments) / moments[-1] == pytest.approx(5.0, rel=0.1)


def test_bursts_are_bursts():
    """The counts of a bursty stream vary by far more than those of a Poisson one."""

    def dispersion(arrivals):
        moments = np.array(list(islice(arrivals(np.random.default_rng(1)), 20_000)))
        counts = np.bincount((moments / 10.0).astype(int))
        return counts.var() / counts.mean()

    assert dispersion(poisson(5.0)) < 1.3
    assert dispersion(bursty(5.0)) > 5.0


def test_run_times_from_a_column_are_that_columns():
    """Drawn with replacement, nothing invented."""
    drawn = set(islice(sampled([1.0, 2.0, 7.5])(np.random.default_rng(1)), 1000))
    assert drawn == {1.0, 2.0, 7.5}


# ---------------------------------------------------------------- workers


def test_a_chunk_runs_one_after_another_and_hands_back_what_has_not_begun():
    """The holder is stopped at once and the next begins; one that has not begun comes back as it was."""
    clock = FakeClock()
    workers = Workers(clock)
    workers.start_chunk(StartChunk(("a", "b", "c", "d"), (1, 1, 2, 1), "n0", (), ONE), [1.0, 1.0, 1.0, 1.0])
    workers.stop("c", 2, "cancelled")
    workers.stop("d", 7, "a stop of an attempt that is not there")
    assert workers.wait(0.5) == [TaskReturned("c", 2, reason="cancelled")]
    workers.stop("a", 1, "preempted")
    assert workers.wait(None) == [TaskStopped("a", 1)]
    assert workers.wait(None) == [TaskFinished("b", 1, None, 1.0)] and clock.now() == 1.0
    assert workers.wait(None) == [TaskFinished("d", 1, None, 1.0)] and clock.now() == 2.0
    assert workers.next_at() == float("inf")


def test_a_lost_node_says_nothing():
    """Neither what ran there nor what of its chunks waited is ever heard of again."""
    workers = Workers(FakeClock())
    workers.start(StartTask("t", 1, "n0", (), ONE), 1.0)
    workers.start_chunk(StartChunk(("a", "b"), (1, 1), "n0", (), ONE), [1.0, 1.0])
    assert workers.lose("n0") == 2 and workers.wait(None) == []
    workers.stop("b", 1, "cancelled")
    assert workers.ended() == []


def test_a_whole_task_scheduler_runs_on_them():
    """The very class of the contract, with a clock that moves only as tasks take their time."""
    clock = FakeClock()
    scheduler = TaskScheduler(clock=clock, executor=Workers(clock), nodes=[NodeJoined("n0", CORE)])
    scheduler.submit_many([(TaskSpec(name), 10.0) for name in ("a", "b", "c")])
    scheduler.run_scheduler()
    assert clock.now() == 30.0
    assert {scheduler.engine.task(name).state for name in ("a", "b", "c")} == {State.COMPLETED}
