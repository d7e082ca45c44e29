"""What scaling decides about one model, and on which numbers."""

from __future__ import annotations

from dataclasses import dataclass

from balance.planning.record import Record


@dataclass(frozen=True, slots=True)
class ScalingDecision(Record):
    """How many replicas there shall be.

    Attributes
    ----------
    replicas : int
        The decision: the largest need within the settling time, within the bounds.
    needed : int
        What is needed by what is known now.
    floor : int
        What the arrivals of late and the queue need, whatever any forecast says; `needed` is never below.
    source : str
        ``forecast``, ``reactive`` (as just now, plus a learnt margin) or ``unmeasured`` (no run time is known yet).
    rate_per_s : float
        Requests a second that capacity is made for, the queue not included.
    recent_per_s : float
        Requests a second of late.
    backlog_per_s : float
        Rate at which the queue that is expected at the horizon has to be drained.
    load : float
        Replicas' worth of work in all that (Erlang).
    centre_per_s : float
        The expected rate at the horizon, without margin.
    horizon_s : float
        How far ahead: the measured cold start.
    """

    replicas: int
    needed: int
    floor: int
    source: str
    rate_per_s: float
    recent_per_s: float
    backlog_per_s: float
    load: float
    centre_per_s: float
    horizon_s: float
