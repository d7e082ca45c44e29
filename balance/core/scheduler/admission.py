"""What may enter: checks on submissions before anything changes, and demands that no node could ever meet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from balance.core.scheduler.allocation import amount_text
from balance.core.scheduler.backfill import lack
from balance.core.scheduler.dependency_resolver import find_cycle
from balance.core.scheduler.room import Room
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.spec import TaskSpec
from balance.core.scheduler.state import EngineState
from balance.errors import Conflict, DependencyCycle, UnknownId
from balance.types import Resources


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
    """Return why `shape` could never run, and what would change that: no node, or no tenant's limit, holds it.

    None if it could, or if no node is known yet.

    Returns
    -------
    dict or None
        ``resource`` that lacks most, ``lacking`` (in cores, bytes, devices), ``node_id`` that comes nearest
        (or the tenant), ``largest_possible`` (its limit as ``cpu``, ``memory``, ``gpu``) and ``reason``, a sentence.
        Either of two changes admits it, and nothing smaller does: ``missing``, all that the limit of the tenant
        and that node would have to have more (``{node or tenant: {resource: amount}}``), or ``admitted``, the
        demand next to this one that can be met (``cpu``, ``memory``, ``gpu``).
    """
    limit = state.shares.account(tenant).tenant.limit
    allowed = None if limit is None else Room(f"tenant {tenant}", "", limit)
    short = [allowed] if allowed is not None and not allowed.could_hold(shape) else []
    if state.limits and not _able(state, shape):
        short.append(min(state.limits.values(), key=lambda room: (lack(room, shape), room.node_id)))
    if not short:
        return None
    missing = {
        room.node_id: {name: amount_text(name, amount)[0] for name, amount in room.shortfall(shape).items()}
        for room in short
    }
    return {**lack_of(short[0], shape), "missing": missing, "admitted": _admitted(state, shape, allowed).to_dict()}


def _admitted(state: EngineState, shape: Shape, allowed: Room | None) -> Resources:
    """Return the demand nearest to `shape` that its tenant may have and some node could hold."""
    cut = shape if allowed is None else Shape(allowed.most_of(shape), shape.reservation)
    if state.limits and not any(room.could_hold(cut) for room in state.limits.values()):
        nearest = min(state.limits.values(), key=lambda room: (lack(room, cut), room.node_id))
        return nearest.most_of(cut)
    return cut.demand


def _able(state: EngineState, shape: Shape) -> bool:
    """Say whether some node could hold `shape`; O(1) as long as the one that could last time is there."""
    known = shape.holder
    if known is None or state.limits.get(known.node_id) is not known:
        known = shape.holder = next((room for room in state.limits.values() if room.could_hold(shape)), None)
    return known is not None


def lack_of(room: Room, shape: Shape) -> dict[str, object]:
    """Return what lacks most for `shape` in an (empty) room, as `denial` describes it."""
    lacks, needs = room.shortfall(shape), dict(shape.amounts)
    resource = max(lacks, key=lambda name: (lacks[name] / needs[name], name))
    lacking, text = amount_text(resource, lacks[resource])
    return {
        "resource": resource,
        "lacking": lacking,
        "node_id": room.node_id,
        "largest_possible": room.capacity.to_dict(),
        "reason": f"it could never run: {room.node_id} comes nearest and lacks {text}",
    }
