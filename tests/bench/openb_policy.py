"""The product's placement as a policy of the OpenB simulator (`openb_sim.py --policy THIS:factory`).

The simulator's cluster is mirrored in a real ledger and kept in step: the simulator applies exactly what
is answered here, and nothing leaves.  GPU models are custom resources, as in Ray: each set of models that
some pod accepts is one, and the nodes of these models have plenty of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from balance.core.scheduler.ledger import Ledger
from balance.core.scheduler.placement import Placement
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.workload import Workload
from balance.core.scheduler.worth import WorthScore
from balance.types import MILLI, Resources

_MIB = 2**20
_PLENTY = 10**9  # a label, not an amount: it never runs out

Place = Callable[[Any], "tuple[int, list[int]] | None"]


def factory(cluster: Any, history: Sequence[Any], rng: Any) -> Place:
    """Return ``place(pod)`` over `cluster`, learned from the distribution of `history`."""
    specs = sorted({pod.spec for pod in history if pod.spec})
    ledger = Ledger()
    for index, count in enumerate(cluster.count):
        labels = sorted(("|".join(spec), _PLENTY) for spec in specs if cluster.model[index] in spec)
        amounts = (int(cluster.cpu[index]), int(cluster.mem[index]) * _MIB, int(count) * MILLI)
        ledger.add_room(f"{index:05d}", "", Resources(*amounts, tuple(labels)))
    score = WorthScore(Workload(demand_of(pod) for pod in history), ledger.rooms())
    placement = Placement(ledger, score=score, shapes_max=4096)
    shapes: dict[Any, Shape] = {}

    def place(pod: Any) -> tuple[int, list[int]] | None:
        shape = shapes.get(pod)
        if shape is None:
            shape = shapes[pod] = Shape(demand_of(pod))
        room = placement.best(shape)
        if room is None:
            return None
        hold = ledger.take(f"pod-{room.node_id}-{room.version}", room, shape, score.devices(room, shape))
        return int(room.node_id), [device for device, _ in hold.devices]

    return place


def demand_of(pod: Any) -> Resources:
    """Return a pod of the simulator as a demand."""
    return Resources(pod.cpu, pod.mem * _MIB, pod.n * pod.milli, (("|".join(pod.spec), 1),) if pod.spec else ())
