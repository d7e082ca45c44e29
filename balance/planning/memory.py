"""What the balancer has learnt: small, bounded, plain; it is stored beside the plans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple

from balance.planning.actions import Expectation
from balance.planning.calibration import FRESH, Calibration, Guess
from balance.planning.record import Record


@dataclass(frozen=True, slots=True)
class Wager(Record):
    """What was guessed about the arrivals of one model in one window, to be compared with what comes.

    Attributes
    ----------
    start, end : float
        The window, POSIX seconds.
    forecast : Guess, optional
        By the forecast; None where there was none.
    reactive : Guess
        By "as many as just now".
    """

    start: float
    end: float
    forecast: Optional[Guess]
    reactive: Guess


@dataclass(frozen=True, slots=True)
class Need(Record):
    """How many replicas a model needed at a moment."""

    at: float
    replicas: int


@dataclass(frozen=True, slots=True)
class ModelMemory(Record):
    """What was learnt about one model.

    Attributes
    ----------
    model_id : str
        The model.
    mode : str
        ``forecast`` or ``reactive``: which guess is acted on.
    forecast, reactive : Calibration
        How each way of guessing did.
    wagers : tuple of Wager
        Guesses whose window is not over.
    needs : tuple of Need
        Recent needs, falling: the first is the largest that still counts.
    """

    model_id: str
    mode: str = "forecast"
    forecast: Calibration = FRESH
    reactive: Calibration = FRESH
    wagers: Tuple[Wager, ...] = ()
    needs: Tuple[Need, ...] = ()


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
