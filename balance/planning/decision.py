"""A plan: what was concluded about each model, and what is to be done, in this order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from balance.planning.actions import Action
from balance.planning.outlook import Outlook
from balance.planning.record import Record


@dataclass(frozen=True, slots=True)
class Decision(Record):
    """What one model gets.

    Attributes
    ----------
    outlook : Outlook
        What it needs and why.
    granted : int
        Replicas that are its share of the cluster.
    parallelism : int
        Batches that it may run at once: its share and whatever nobody claims.
    """

    outlook: Outlook
    granted: int
    parallelism: int


@dataclass(frozen=True, slots=True)
class Plan(Record):
    """The balancing decision of one tick.

    Attributes
    ----------
    tick : int
        Of the snapshot it was made from.
    at : float
        When that was, POSIX seconds.
    contended : bool
        Whether the models want more than there is.
    decisions : tuple of Decision
        Each model, by id.
    actions : tuple of Action
        What to do, in this order: what frees room comes before what takes it.
    """

    tick: int
    at: float
    contended: bool
    decisions: Tuple[Decision, ...]
    actions: Tuple[Action, ...]
