"""From one model's state to the number of replicas it needs: how many will come, how long each takes."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Optional

from balance.planning.calibration import Guess
from balance.planning.memory import ModelMemory, Wager
from balance.planning.policy import PlanPolicy
from balance.planning.record import Record
from balance.planning.sizing import replicas_for
from balance.planning.snapshot import ModelState

_Z90 = 1.2815515655446004


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
        Rate at which the queued requests must be drained to meet the objective.
    load : float
        Replicas' worth of work in all that (Erlang).
    needed : int
        Replicas that keep the objective now.
    wanted : int
        The largest need within the settling time: what the model asks for.
    wager : Wager
        What to compare with the arrivals later.
    """

    model_id: str
    source: str
    rate_per_s: float
    recent_per_s: float
    backlog_per_s: float
    load: float
    needed: int
    wanted: int
    wager: Wager


def look_ahead(model: ModelState, memory: ModelMemory, policy: PlanPolicy, at: float) -> Outlook:
    """Return how many replicas a model needs, whatever the others need.  Pure.

    The window that counts begins when a replica that was started now would answer (the measured cold
    start) and is as long as the objective: what comes earlier must do with what there is.  The rate is the
    learnt upper bound of the arrivals in it, and never below the rate of late: a forecast may add capacity
    ahead of time but not take away what is being used.
    """
    wager = _wager(model, memory, policy, at)
    span = wager.end - wager.start
    recent_per_s = wager.reactive.centre / span
    believed, source = wager.reactive, "reactive"
    if wager.forecast is not None and memory.mode == "forecast":
        believed, source = wager.forecast, "forecast"
    rate_per_s = max(recent_per_s, believed.bound / span)
    backlog_per_s = model.queued / model.objective_s
    if model.service_s is None:
        source = "unmeasured"
        needed = int(not _idle(model, recent_per_s))
    elif _idle(model, recent_per_s):
        needed = 0
    else:
        fewest = replicas_for(
            rate_per_s + backlog_per_s,
            model.service_s,
            max(0.0, model.objective_s - model.service_s * model.batch_size),
            p90_s=model.service_p90_s,
            on_time=policy.on_time,
            max_utilisation=policy.max_utilisation,
            limit=policy.max_replicas,
        )
        needed = max(1, fewest)
    settling = [need.replicas for need in memory.needs if at - need.at < policy.settle_s]
    return Outlook(
        model_id=model.model_id,
        source=source,
        rate_per_s=rate_per_s,
        recent_per_s=recent_per_s,
        backlog_per_s=backlog_per_s,
        load=(rate_per_s + backlog_per_s) * (model.service_s or 0.0),
        needed=needed,
        wanted=max([needed, *settling]),
        wager=wager,
    )


def _wager(model: ModelState, memory: ModelMemory, policy: PlanPolicy, at: float) -> Wager:
    """Return both guesses of the arrivals in the window that counts."""
    start = at + model.cold_start_s
    span = max(model.step_s, policy.min_window_s, model.objective_s)
    forecast = model.forecast if model.forecast is not None and model.forecast.status == "ok" else None
    if forecast is not None:
        left = forecast.until - start
        if left < min(span, forecast.step_s):
            forecast = None
        else:
            span = min(span, left)
    known = min(span, model.step_s * len(model.arrivals))
    arrived = model.arrived(at - known, at, at) if known > 0 else 0.0
    centre = (arrived or 0.0) * (span / known if known > 0 else 0.0)
    # The scale of a count is its square root (Poisson); one is added so that silence has a scale too.
    reactive = memory.reactive.guess(centre, sqrt(centre + 1.0), policy)
    foretold = forecast.between(start, start + span) if forecast is not None else None
    guess: Optional[Guess] = None
    if foretold is not None:
        middle, high = foretold
        # The scale is in standard deviations, as the reactive one: the 0.9 quantile lies 1.28 of them up.
        scale = max((high - middle) / _Z90, 0.1 * sqrt(middle + 1.0))
        guess = memory.forecast.guess(middle, scale, policy)
    return Wager(start, start + span, guess, reactive)


def _idle(model: ModelState, recent_per_s: float) -> bool:
    """Say whether nobody asks for the model and more likely than not nobody will within the forecast's reach."""
    expected = sum(model.forecast.q50) if model.forecast is not None else 0.0
    return not (model.queued or model.running or recent_per_s > 0 or expected >= 0.5)
