"""What may enter: checks on submissions before anything changes, and demands that no node could ever meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from balance.core.scheduler.dependency_resolver import find_cycle
from balance.core.scheduler.room import Room
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.spec import TaskSpec
from balance.core.scheduler.state import EngineState
from balance.errors import Conflict, DependencyCycle, UnknownId
from balance.types import MILLI


def check_submissions(state: EngineState, specs: Sequence[TaskSpec]) -> None:
    """Raise unless all of `specs` may be submitted together; nothing is changed.

    Raises
    ------
    Conflict
        An id is known already or given twice, or a gang does not take the newcomers.
    UnknownId
        A dependency is neither known nor among `specs`.
    DependencyCycle
        The new tasks wait for one another in a circle.
    """
    ids = [spec.task_id for spec in specs]
    new = set(ids)
    if len(new) != len(ids):
        twice = next(task_id for task_id, number in Counter(ids).items() if number > 1)
        raise Conflict(f"task {twice!r} is submitted twice at once", task_id=twice)
    if not state.tasks.keys().isdisjoint(new):
        known = state.tasks[next(task_id for task_id in ids if task_id in state.tasks)]
        raise Conflict(
            f"task {known.task_id!r} exists already and is {known.state}; choose another id",
            task_id=known.task_id,
            state=str(known.state),
        )
    bound = [spec for spec in specs if spec.dependencies]
    for dependency in (dependency for spec in bound for dependency in spec.dependencies):
        if dependency not in new and dependency not in state.tasks:
            raise UnknownId("task", dependency, state.some_ids())
    if bound and len(specs) > 1:
        cycle = find_cycle({spec.task_id: [d for d in spec.dependencies if d in new] for spec in bound})
        if cycle is not None:
            raise DependencyCycle(cycle)
    _check_gangs(state, [spec for spec in specs if spec.gang_id is not None])


def _check_gangs(state: EngineState, specs: Sequence[TaskSpec]) -> None:
    newcomers: dict[str, list[TaskSpec]] = {}
    for spec in specs:
        newcomers.setdefault(spec.gang_id or "", []).append(spec)
    for gang_id, members in newcomers.items():
        first = members[0]
        if any((spec.gang_size, spec.tenant) != (first.gang_size, first.tenant) for spec in members):
            raise Conflict(f"the members of gang {gang_id!r} differ in gang_size or tenant", gang_id=gang_id)
        gang = state.gangs.get(gang_id)
        if gang is not None:
            gang.check(first.gang_size, first.tenant, len(members))
        elif len(members) > first.gang_size:
            raise Conflict(f"gang {gang_id!r} has {first.gang_size} members, not {len(members)}", gang_id=gang_id)


def denial(state: EngineState, shape: Shape, tenant: str) -> dict[str, object] | None:
    """Return why `shape` could never run: no node could hold it, or `tenant` may not have that much.

    None if it could, or if no node is known yet.

    Returns
    -------
    dict or None
        ``resource`` that lacks, ``lacking`` (in cores, bytes, devices), ``node_id`` that comes nearest
        (or the tenant), ``largest_possible`` (its limit as ``cpu``, ``memory``, ``gpu``) and ``reason``, a sentence.
    """
    limit = state.shares.account(tenant).tenant.limit
    if limit is not None:
        allowed = Room(f"tenant {tenant}", "", limit)
        if not allowed.could_hold(shape):
            return lack_of(allowed, shape)
    if not state.limits or _able(state, shape):
        return None
    return lack_of(min(state.limits.values(), key=lambda room: (_distance(room, shape), room.node_id)), shape)


def _able(state: EngineState, shape: Shape) -> bool:
    """Say whether some node could hold `shape`; O(1) as long as the one that could last time is there."""
    known = shape.holder
    if known is None or state.limits.get(known.node_id) is not known:
        known = shape.holder = next((room for room in state.limits.values() if room.could_hold(shape)), None)
    return known is not None


def lack_of(room: Room, shape: Shape) -> dict[str, object]:
    """Return what lacks for `shape` in an (empty) room, as `denial` describes it."""
    lacks = room.shortfall(shape)
    resource, amount = max(lacks.items(), key=lambda item: (item[1] / max(_need(shape, item[0]), 1), item[0]))
    lacking = amount if resource == "memory" else amount / MILLI
    unit = {"cpu": "cores", "memory": "bytes", "gpu": "devices"}.get(resource, "units")
    nearest = f"{room.node_id} comes nearest and lacks {lacking:g} {unit} of {resource}"
    return {
        "resource": resource,
        "lacking": lacking,
        "node_id": room.node_id,
        "largest_possible": room.capacity.to_dict(),
        "reason": f"it could never run: {nearest}",
    }


def _need(shape: Shape, resource: str) -> int:
    return dict(shape.amounts).get(resource, 0)


def _distance(room: Room, shape: Shape) -> float:
    return sum(amount / max(_need(shape, name), 1) for name, amount in room.shortfall(shape).items())
