"""What scaling carries from one observation to the next; all of it goes to JSON and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Tuple

from balance.planning.record import Record
from balance.planning.scaling.fleet import Fleet
from balance.planning.scaling.guard import Guard
from balance.planning.scaling.guess import Expectations


@dataclass(frozen=True, slots=True)
class Need(Record):
    """How many replicas were needed at a moment."""

    at: float
    replicas: int


@dataclass(frozen=True, slots=True)
class Reach(Record):
    """How many scales above its centre the bound lies: of the forecast, and of the reactive rule."""

    led: float
    naive: float

    @classmethod
    def of(cls, expects: Expectations, coverage: float) -> Reach:
        """Return what the scores say for a coverage."""
        return cls(expects.led.reach(coverage), expects.naive.reach(coverage))


@dataclass(frozen=True, slots=True)
class ScalerState(Record):
    """Everything that `scale` remembers about one model.

    Attributes
    ----------
    counted_until : float, optional
        Where the next bin begins; None before the first.
    expects : Expectations
        What is expected, and how right that was.
    reach : Reach, optional
        What the scores of that say for the policy's coverage; None before the first bin.
    guard : Guard
        Whether the forecast pays.
    fleet : Fleet
        The replicas as last seen, with when those on their way should answer.
    needs : tuple of Need
        Recent needs, falling: the first is the largest that still counts.

    Examples
    --------
    >>> ScalerState.from_dict(ScalerState().to_dict()) == ScalerState()
    True
    """

    counted_until: Optional[float] = None
    expects: Expectations = field(default_factory=Expectations)
    reach: Optional[Reach] = None
    guard: Guard = field(default_factory=Guard)
    fleet: Fleet = field(default_factory=Fleet)
    needs: Tuple[Need, ...] = ()


#: What is known before the first observation.
FRESH = ScalerState()
