"""The janitor's eye: what the ledger says against what the cluster has."""

from __future__ import annotations

from collections.abc import Iterable

from balance.core.scheduler.allocation import Allocation, PlaceFact, Repair

PENDING_MAX_S = 60.0
"""After this a pending allocation counts as forgotten by whoever was to create its place."""


def compare(allocations: Iterable[Allocation], facts: Iterable[PlaceFact], now: float) -> list[Repair]:
    """Return what is to be done, ordered by place.

    Parameters
    ----------
    allocations : iterable of Allocation
        What the ledger says.
    facts : iterable of PlaceFact
        The places that exist.
    now : float
        POSIX seconds.

    Examples
    --------
    >>> compare([], [PlaceFact("model-a.1", "n1", created=True)], now=0.0)
    [Repair(action='remove', place='model-a.1', allocation_id='model-a', reason='no allocation ...', ...)]
    """
    there = {fact.place: fact for fact in facts}
    wanted = {each.place: each for each in allocations}
    # One that is not created yet is left alone: removed now, Ray would leak its resources for good.
    repairs = [
        Repair("remove", place, place.rpartition(".")[0], "no allocation stands behind it")
        for place, fact in there.items()
        if fact.created and place not in wanted
    ]
    for place, allocation in wanted.items():
        repair = _repair(allocation, there.get(place), now)
        if repair is not None:
            repairs.append(repair)
    return sorted(repairs, key=lambda repair: (repair.place, repair.action))


def _repair(allocation: Allocation, fact: PlaceFact | None, now: float) -> Repair | None:
    place, name = allocation.place, allocation.allocation_id
    late = now - allocation.created_at > PENDING_MAX_S
    if fact is None:
        if allocation.state == "confirmed":
            return Repair("create", place, name, "its place is gone")
        return Repair("abandon", place, name, "its place was never created") if late else None
    if not fact.created:
        return None
    if fact.node_id is not None and fact.node_id != allocation.node_id:
        was = allocation.node_id or "a lost node"
        return Repair("moved", place, name, f"from {was} to {fact.node_id}", fact.node_id)
    if allocation.state == "pending" and late:
        return Repair("confirm", place, name, "its place was created, but nobody said so")
    return None
