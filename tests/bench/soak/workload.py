"""The soak's tasks: short and longer ones; most are idempotent, some may run once, some come by the coordinator."""

from __future__ import annotations

import random
from dataclasses import dataclass

SHORT_SHARE, ONCE_SHARE, COORDINATOR_SHARE = 0.5, 0.05, 0.05
RUN_S_MAX, ONCE_RUN_S_MAX = 0.02, 0.2
BULK_MAX = 50


@dataclass(frozen=True, slots=True)
class Item:
    """One task of the soak.

    Attributes
    ----------
    task_id : str
        Its id.
    run_s : float
        How long it takes.
    priority : int
        1 to 5.
    kind : str
        ``many`` (submitted in bulk, idempotent), ``once`` (in bulk, not idempotent), ``coordinator`` (through
        `OperationCoordinator.execute_task`).
    """

    task_id: str
    run_s: float
    priority: int
    kind: str


def items(count: int, seed: int) -> list[Item]:
    """Return the tasks of a soak, the same for the same seed.

    Examples
    --------
    >>> first = items(1000, seed=1)
    >>> first == items(1000, seed=1), first == items(1000, seed=2), sorted({item.kind for item in first})
    (True, False, ['coordinator', 'many', 'once'])
    """
    rng = random.Random(seed)
    made = []
    for number in range(count):
        drawn = rng.random()
        kind = "many"
        if drawn < ONCE_SHARE:
            kind = "once"
        elif drawn < ONCE_SHARE + COORDINATOR_SHARE:
            kind = "coordinator"
        run_s = 0.0 if rng.random() < SHORT_SHARE else rng.uniform(0.001, RUN_S_MAX)
        if kind == "once":
            run_s = rng.uniform(0.0, ONCE_RUN_S_MAX)  # long enough for a kill to hit some half-way
        made.append(Item(f"soak-{number:05d}", run_s, rng.randint(1, 5), kind))
    return made


def due(strikes: int, of: int, count: int) -> int:
    """Return how many of `count` tasks are to be submitted when `strikes` of so many kills were made.

    So tasks last until the last kill: each falls on a system that has work.

    Examples
    --------
    >>> [due(strikes, 4, 100) for strikes in range(5)]
    [20, 40, 60, 80, 100]
    """
    return count * (strikes + 1) // (of + 1)
