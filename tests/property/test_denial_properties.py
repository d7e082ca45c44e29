"""What a denial suggests: taken up, it admits the task; anything smaller does not."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from balance.core.scheduler.engine import Engine
from balance.core.scheduler.events import NodeJoined, TaskSubmitted
from balance.core.scheduler.policy import SchedulingPolicy, Tenant
from balance.core.scheduler.spec import TaskSpec
from balance.types import Resources

CORES = st.integers(0, 8)
BYTES = st.integers(0, 8)
NODES = st.lists(
    st.builds(
        lambda cpu, memory, gpu: Resources.capacity(cpu=cpu, memory=memory, gpu=gpu), CORES, BYTES, st.integers(0, 4)
    ),
    min_size=1,
    max_size=4,
)
DEMANDS = st.builds(
    lambda cpu, memory, gpu: Resources.demand(cpu=cpu, memory=memory, gpu=gpu),
    CORES,
    BYTES,
    st.sampled_from([0, 0.3, 0.5, 1, 2, 3, 4]),
)


def denied(nodes: list[Resources], demand: Resources, limit: Resources | None = None) -> dict | None:
    """Return what the engine says to such a task: its denial, None if it takes it."""
    engine = Engine(policy=SchedulingPolicy(tenants=(Tenant("t", limit=limit),)))
    engine.handle(*(NodeJoined(f"n{number}", each) for number, each in enumerate(nodes)), now=0.0)
    engine.handle(TaskSubmitted(TaskSpec("task", demand=demand, tenant="t")), now=0.0)
    task = engine.task("task")
    return task.error if task.state == "denied" else None


@given(NODES, DEMANDS, st.one_of(st.none(), DEMANDS))
@settings(max_examples=150, deadline=None)
def test_the_suggested_demand_is_admitted_and_no_larger_one_is(nodes, demand, limit):
    """As much of what was asked as can be had: a thousandth more of anything that was cut is denied again."""
    error = denied(nodes, demand, limit)
    assume(error is not None)
    admitted = Resources.from_dict(error["admitted"])
    assert admitted != demand and denied(nodes, admitted, limit) is None
    if admitted.cpu_milli < demand.cpu_milli:
        assert denied(nodes, replace(admitted, cpu_milli=admitted.cpu_milli + 1), limit) is not None
    if admitted.memory_bytes < demand.memory_bytes:
        assert denied(nodes, replace(admitted, memory_bytes=admitted.memory_bytes + 1), limit) is not None


@given(NODES, DEMANDS, st.one_of(st.none(), DEMANDS))
@settings(max_examples=150, deadline=None)
def test_the_suggested_capacity_admits_it_and_less_does_not(nodes, demand, limit):
    """The node that comes nearest, and the tenant's limit, with what is missing: then it fits; a unit less, and not."""
    error = denied(nodes, demand, limit)
    assume(error is not None)
    grown, higher = list(nodes), limit
    for name, amounts in error["missing"].items():
        more = Resources.capacity(**amounts)
        if name.startswith("tenant "):
            assert limit is not None
            higher = limit + more
        else:
            grown[int(name[1:])] += more
    assert denied(grown, demand, higher) is None
    for name, amounts in error["missing"].items():
        less = (
            Resources(cpu_milli=1) if "cpu" in amounts else Resources(memory_bytes=1) if "memory" in amounts else None
        )
        if less is None:
            continue
        if name.startswith("tenant "):
            assert denied(grown, demand, higher - less) is not None
        else:
            short = list(grown)
            short[int(name[1:])] -= less
            assert denied(short, demand, higher) is not None
