"""What the balancer has learnt: small, bounded, plain; it is stored beside the plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Tuple

from balance.planning.actions import Expectation
from balance.planning.record import Record
from balance.planning.scaling.state import FRESH, ScalerState


@dataclass(frozen=True, slots=True)
class ModelMemory(Record):
    """What was learnt about one model: all of it serves to say how many replicas it needs."""

    model_id: str
    scaling: ScalerState = FRESH


@dataclass(frozen=True, slots=True)
class Tally(Record):
    """How often actions of one kind brought about what they promised."""

    action: str
    kept: int = 0
    missed: int = 0


@dataclass(frozen=True, slots=True)
class Memory(Record):
    """Everything learnt so far; the empty one is how a balancer starts.

    Examples
    --------
    >>> Memory.from_dict(Memory().to_dict()) == Memory()
    True
    """

    models: Tuple[ModelMemory, ...] = ()
    expectations: Tuple[Expectation, ...] = ()
    tallies: Tuple[Tally, ...] = ()

    def of(self, model_id: str) -> ModelMemory:
        """Return what was learnt about a model, or a fresh memory."""
        return next((one for one in self.models if one.model_id == model_id), ModelMemory(model_id))
