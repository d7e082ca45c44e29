"""How many replicas: the one decision that the balancing loop, the simulator and the Ray Serve policy share.

1. Count the arrivals in bins; judge the guesses whose window is over (`guess`); let the guard's two imagined
   fleets live through the bin (`guard`).
2. Capacity is made for the bound of what comes when a replica started now would answer: that of the forecast, or
   that of the reactive rule while the guard has it lead.  The queue is projected to that moment, and what
   will wait there is added.
3. Never fewer than the arrivals of late and the queue need now; never fewer than any need within the settling time.

A rate becomes replicas by Erlang's formula; where requests may wait much longer than they take, the wait that is
allowed is used: a shortage that will be corrected within a cold start needs no replica of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from balance.planning.scaling.decision import ScalingDecision
from balance.planning.scaling.fleet import Fleet, queue_ahead
from balance.planning.scaling.guard import Guard
from balance.planning.scaling.guess import Expectations, Guess
from balance.planning.scaling.observation import Observation
from balance.planning.scaling.policy import ScalingPolicy
from balance.planning.scaling.state import Need, Reach, ScalerState
from balance.planning.sizing import replicas_for

#: The rise, as a share of the load after it, for which the time to drain what it leaves is chosen.
_RISE = 0.5
#: A silence that is longer than so many bins is a new beginning.
_GAP_BINS = 512


def scale(seen: Observation, state: ScalerState, policy: ScalingPolicy) -> tuple[ScalingDecision, ScalerState]:
    """Return how many replicas there shall be, and what is known from now on.  Pure; the same moment twice is once.

    Parameters
    ----------
    seen : Observation
        One model, now; the observations of a model come in the order of time.
    state : ScalerState
        What the last call returned; ``ScalerState()`` at the start.
    policy : ScalingPolicy
        How careful to be.

    Returns
    -------
    tuple of (ScalingDecision, ScalerState)
        The decision, never below its `floor` and within the policy's bounds, and the next state.  About a tenth
        of a millisecond for each bin.

    Examples
    --------
    >>> seen = Observation(600.0, (4.0,) * 60, 1.0, service_s=0.5, objective_s=5.0, ready=1)
    >>> decision, state = scale(seen, ScalerState(), ScalingPolicy())
    >>> decision.replicas, decision.floor, decision.source, scale(seen, state, ScalingPolicy())[0] == decision
    (3, 3, 'reactive', True)
    """
    state = _counted(seen, state, policy)
    fleet = state.fleet.seen(seen.ready, seen.starting, seen.at, seen.cold_start_s)
    decision = _decide(seen, state, fleet, policy)
    need = Need(seen.at, decision.needed)
    kept = [
        old
        for old in state.needs
        if old.at < seen.at and seen.at - old.at < policy.settle_s and old.replicas > need.replicas
    ]
    return decision, replace(state, fleet=fleet, needs=(*kept, need))


def _counted(seen: Observation, state: ScalerState, policy: ScalingPolicy) -> ScalerState:
    """Return the state after every bin that is over."""
    bin_s = policy.bin_s
    start = state.counted_until
    if start is None or seen.at - start > _GAP_BINS * bin_s:
        start = math.ceil(seen.since / bin_s - 1e-6) * bin_s
        start = max(start, math.floor(seen.at / bin_s - _GAP_BINS) * bin_s)
    expects, guard, reach = state.expects, state.guard, state.reach
    while start + bin_s <= seen.at + 1e-6:
        end = start + bin_s
        known = end - max(start, seen.since)
        if known > 1e-6:
            rate = seen.arrived(max(start, seen.since), end) / known
        else:  # nobody counted: as before
            rate = expects.rates.recent[-1] if expects.rates.recent else 0.0
        before, expects = expects, expects.after(rate, end, seen, policy)
        if reach is None or expects.led is not before.led:
            reach = Reach.of(expects, policy.coverage)
        guard = _guarded(guard, expects, reach, seen, policy, end=end)
        start = end
    return replace(state, counted_until=start, expects=expects, reach=reach, guard=guard)


@dataclass(frozen=True, slots=True)
class _Line:
    """Replicas and those who wait before them, at a moment."""

    fleet: Fleet
    queued: float
    at: float


@dataclass(frozen=True, slots=True)
class _Outlook:
    """Requests a second: of late, expected at the horizon, and the bound of that."""

    recent: float
    centre: float
    bound: float


def _needs(line: _Line, outlook: _Outlook, seen: Observation, policy: ScalingPolicy) -> tuple[int, int, float]:
    """Return the need ahead, the floor, and the backlog expected at the horizon, for one line."""
    assert seen.service_s is not None, "nothing can be sized before it is measured"
    drain_s = _drain_s(seen, policy)
    floor = _fewest(outlook.recent, line.queued / drain_s, seen, policy)
    waiting = queue_ahead(
        line.fleet,
        line.queued,
        (outlook.recent, outlook.centre),
        now=line.at,
        horizon_s=seen.cold_start_s,
        service_s=seen.service_s,
    )
    return max(floor, _fewest(outlook.bound, waiting / drain_s, seen, policy)), floor, waiting


def _fewest(rate: float, drained: float, seen: Observation, policy: ScalingPolicy) -> int:
    """Return the fewest replicas that carry a rate and drain a queue at a rate."""
    service_s = seen.service_s or 0.0
    wait_s = max(0.0, seen.objective_s - service_s * seen.batch_size)
    absorbed = 1.0 + 0.5 * wait_s / max(policy.window_s, seen.cold_start_s)
    return replicas_for(
        rate / absorbed + drained,
        service_s,
        wait_s,
        p90_s=seen.service_p90_s,
        on_time=policy.on_time,
        max_utilisation=1.0,
        limit=policy.max_replicas,
    )


def _drain_s(seen: Observation, policy: ScalingPolicy) -> float:
    """Return how fast a queue has to go, by what its misses cost against what it costs to start replicas for it.

    Who drains Q replica-seconds of work in T pays Q/T more replicas for a cold start C each, and the whole load L that
    comes meanwhile is late: C·Q/T + price·L·T is least at T = √(C·Q/(price·L)).  A load that rose by a share of what
    it is, unforeseen, has left Q = share·L·C when the first replica for it answers, hence T = C·√(share/price).
    A start that is shorter than two bins bounds it from below, else two bins do: sooner nobody sees that it is gone.
    What waits no longer than the objective harms nobody.
    """
    least_dear_s = seen.cold_start_s * math.sqrt(_RISE / policy.price)
    seen_s = min(2.0 * policy.bin_s, seen.cold_start_s)
    return max(seen.objective_s, min(policy.drain_s, max(seen_s, least_dear_s)))


def _guarded(
    guard: Guard, expects: Expectations, reach: Reach, seen: Observation, policy: ScalingPolicy, *, end: float
) -> Guard:
    """Return the guard after a bin that ended at `end`, each of its fleets told what it would have been told."""
    if seen.service_s is None or seen.service_s <= 0:
        return guard
    arrived, guess = expects.rates.recent[-1] * policy.bin_s, expects.pending[-1]
    lived = [
        shadow.after(arrived, end, policy.bin_s, seen.service_s, seen.objective_s)
        for shadow in (guard.forecast, guard.reactive)
    ]
    outlooks = _outlooks(guess, reach, guess.level)
    told = []
    for shadow, outlook in zip(lived, outlooks, strict=True):
        wanted = _needs(_Line(shadow.fleet, shadow.queued, end), outlook, seen, policy)[0]
        told.append(shadow.told(max(policy.min_replicas, wanted), end, seen.cold_start_s))
    unit = max(expects.rates.usual, guess.usual) * seen.service_s * policy.window_s
    return guard.after(
        told[0], told[1], service_s=seen.service_s, price=policy.price, unit=unit, patience=policy.patience
    )


def _outlooks(guess: Guess, reach: Reach, recent: float) -> tuple[_Outlook, _Outlook]:
    """Return what the forecast and what the reactive rule has capacity made for."""
    led = guess.centre + reach.led * guess.scale
    naive = guess.level + reach.naive * guess.naive_scale
    return _Outlook(recent, guess.centre, max(0.0, led)), _Outlook(recent, guess.level, max(0.0, naive))


def _decide(seen: Observation, state: ScalerState, fleet: Fleet, policy: ScalingPolicy) -> ScalingDecision:
    expects = state.expects
    if policy.lead == "reactive":
        seen = replace(seen, forecast=None)
    if not expects.pending:  # not even one bin: as far as the counts go
        known = seen.recent_per_s(policy.bin_s)
        expects = expects.after(known, seen.at, seen, policy)
    guess = expects.pending[-1] if seen.forecast is None else expects.guess(seen.at, seen, policy)
    guess = _as_seen(guess, seen, state, policy)
    recent = seen.recent_per_s(policy.window_s)
    informed = bool(expects.centre.squares) or guess.moves[-1] != 0.0
    leads = informed and (state.guard.mode if policy.lead == "auto" else policy.lead) == "forecast"
    reach = state.reach if state.reach is not None else Reach.of(expects, policy.coverage)
    outlook = _outlooks(guess, reach, recent)[0 if leads else 1]
    source = "forecast" if leads else "reactive"
    waiting = seen.queued
    if seen.service_s is None:
        source, needed, floor = "unmeasured", int(not _idle(seen, recent)), 0
    elif _idle(seen, recent):
        needed = floor = 0
    else:
        needed, floor, waiting = _needs(_Line(fleet, seen.queued, seen.at), outlook, seen, policy)
        needed = max(1, needed)
    needed = min(policy.max_replicas, max(policy.min_replicas, needed))
    settling = [need.replicas for need in state.needs if need.at < seen.at and seen.at - need.at < policy.settle_s]
    rate, backlog = max(outlook.bound, recent), waiting / _drain_s(seen, policy)
    return ScalingDecision(
        replicas=min(policy.max_replicas, max([needed, *settling])),
        needed=needed,
        floor=min(policy.max_replicas, floor),
        source=source,
        rate_per_s=rate,
        recent_per_s=recent,
        backlog_per_s=backlog,
        load=(rate + backlog) * (seen.service_s or 0.0),
        centre_per_s=outlook.centre,
        horizon_s=seen.cold_start_s,
    )


def _as_seen(guess: Guess, seen: Observation, state: ScalerState, policy: ScalingPolicy) -> Guess:
    """Return the guess at the level that the observation shows for the bins that were counted.

    They differ where somebody asks what would be if demand were another (`planning.suppose`).
    """
    end = state.counted_until
    if end is None or guess.level <= 0 or seen.since > end - policy.bin_s + 1e-6 or not state.expects.rates.recent:
        return guess
    counted = state.expects.rates.recent[-1]
    shown = seen.arrived(end - policy.bin_s, end) / policy.bin_s
    if counted <= 0 or abs(shown / counted - 1.0) < 1e-6:
        return guess
    factor = shown / counted
    return replace(
        guess,
        level=guess.level * factor,
        centre=guess.centre * factor,
        scale=guess.scale * factor,
        naive_scale=guess.naive_scale * factor,
    )


def _idle(seen: Observation, recent: float) -> bool:
    """Say whether nobody asks and more likely than not nobody will within the forecast's reach."""
    expected = sum(seen.forecast.q50) if seen.forecast is not None else 0.0
    return not (seen.queued > 0 or seen.running or recent > 0 or expected >= 0.5)
