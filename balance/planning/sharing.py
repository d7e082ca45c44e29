"""Who gets how many replicas when there is not enough for all: weighted dominant-resource fairness.

Progressive filling (A. Ghodsi et al., "Dominant Resource Fairness", NSDI 2011): the next replica goes
to the model whose largest share of any resource, divided by its weight, is the smallest.  A model leaves
when it has what it wants or its next replica fits no more.  Max-min fair by weight; nobody gets more than
they want; whoever wants more never gets less.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from balance.types import Resources


@dataclass(frozen=True, slots=True)
class Claim:
    """What a model wants: `replicas` of `demand` each, with the `weight` of its priority."""

    model_id: str
    demand: Resources
    replicas: int
    weight: float


def fair_replicas(claims: Sequence[Claim], room: Resources) -> dict[str, int]:
    """Return the replicas of each model; together they fit in `room`.  O(replicas · log models).

    Ties go to the heavier weight, then to the smaller id.

    Examples
    --------
    >>> one = Resources.demand(cpu=1)
    >>> fair_replicas([Claim("a", one, 9, 2.0), Claim("b", one, 9, 1.0), Claim("c", one, 1, 1.0)],
    ...               Resources.capacity(cpu=7))
    {'a': 4, 'b': 2, 'c': 1}
    """
    granted = {claim.model_id: 0 for claim in claims}
    whole = dict(room.items())
    step = {claim.model_id: _dominant_share(claim.demand, whole) / claim.weight for claim in claims}
    heap = [(0.0, -claim.weight, claim.model_id, claim) for claim in claims if claim.replicas > 0]
    heapq.heapify(heap)
    while heap:
        _, _, model_id, claim = heapq.heappop(heap)
        if not claim.demand.fits_in(room):
            continue
        room = room - claim.demand
        granted[model_id] += 1
        if granted[model_id] < claim.replicas:
            heapq.heappush(heap, (granted[model_id] * step[model_id], -claim.weight, model_id, claim))
    return granted


def fits(demand: Resources, room: Resources, limit: int) -> int:
    """Return how many times `demand` fits in `room`, at most `limit`.

    Examples
    --------
    >>> fits(Resources.demand(cpu=0.5), Resources.capacity(cpu=2), 100)
    4
    """
    held = dict(room.items())
    times = [held.get(name, 0) // amount for name, amount in demand.items()]
    return max(0, min([limit, *times]))


def _dominant_share(demand: Resources, whole: dict[str, int]) -> float:
    return max((amount / whole[name] for name, amount in demand.items() if whole.get(name, 0) > 0), default=0.0)
