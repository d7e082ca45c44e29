"""From one model's state to the number of replicas it needs, whatever the others need."""

from __future__ import annotations

from dataclasses import dataclass

from balance.planning.memory import ModelMemory
from balance.planning.policy import PlanPolicy
from balance.planning.record import Record
from balance.planning.scaling.observation import Observation
from balance.planning.scaling.scaler import scale
from balance.planning.snapshot import ModelState


@dataclass(frozen=True, slots=True)
class Outlook(Record):
    """What is decided about one model before it is compared with the others.

    Attributes
    ----------
    model_id : str
        The model.
    source : str
        ``forecast``, ``reactive`` (as just now, plus a learnt margin) or ``unmeasured`` (no run time is known yet).
    rate_per_s : float
        Requests a second that capacity is made for, the backlog not included.
    recent_per_s : float
        Requests a second of late.
    backlog_per_s : float
        Rate at which the requests that will wait at the horizon have to be drained.
    load : float
        Replicas' worth of work in all that (Erlang).
    needed : int
        Replicas that keep the objective now.
    wanted : int
        The largest need within the settling time: what the model asks for.
    floor : int
        What the arrivals of late and the queue need, whatever any forecast says.
    horizon_s : float
        How far ahead was looked: the measured cold start.
    """

    model_id: str
    source: str
    rate_per_s: float
    recent_per_s: float
    backlog_per_s: float
    load: float
    needed: int
    wanted: int
    floor: int = 0
    horizon_s: float = 0.0


def look_ahead(model: ModelState, memory: ModelMemory, policy: PlanPolicy, at: float) -> Outlook:
    """Return how many replicas a model needs, by the one decision of `balance.planning.scaling`.  Pure."""
    decision, _ = scale(observed(model, at), memory.scaling, policy.scaling)
    return Outlook(
        model_id=model.model_id,
        source=decision.source,
        rate_per_s=decision.rate_per_s,
        recent_per_s=decision.recent_per_s,
        backlog_per_s=decision.backlog_per_s,
        load=decision.load,
        needed=decision.needed,
        wanted=decision.replicas,
        floor=decision.floor,
        horizon_s=decision.horizon_s,
    )


def observed(model: ModelState, at: float) -> Observation:
    """Return what scaling sees of a model.

    Examples
    --------
    >>> observed(ModelState("whisper", arrivals=(1.0, 3.0), queued=2), at=60.0).arrived(58.0, 60.0)
    4.0
    """
    return Observation(
        at=at,
        arrivals=model.arrivals,
        step_s=model.step_s,
        queued=model.queued,
        running=model.running,
        ready=max(0, model.replicas - model.starting),
        starting=min(model.starting, model.replicas),
        service_s=model.service_s,
        service_p90_s=model.service_p90_s,
        batch_size=model.batch_size,
        cold_start_s=model.cold_start_s,
        objective_s=model.objective_s,
        forecast=model.forecast,
    )
