"""What a tick teaches: were the bounds right, does the forecast pay, did the actions do what they promised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from balance.planning.actions import Expectation
from balance.planning.decision import Decision, Plan
from balance.planning.memory import Memory, ModelMemory, Need, Tally
from balance.planning.policy import PlanPolicy
from balance.planning.snapshot import Snapshot

#: Bounds of what is kept while it waits to be judged.
MAX_WAGERS = 128
MAX_EXPECTATIONS = 1024


def learn(memory: Memory, plan: Plan, observed: Snapshot, policy: PlanPolicy = PlanPolicy()) -> Memory:  # noqa: B008 (frozen)
    """Return what is known after a plan and the snapshot that followed it.  Pure.

    Every wager whose window is over is compared with the arrivals and moves both calibrations; the forecast
    is demoted to the reactive rule when its loss is above that of the rule, and taken back when it is
    below.  The reactive rule is judged all the time, and so is a demoted forecast.

    Parameters
    ----------
    memory : Memory
        What was known when the plan was made.
    plan : Plan
        The plan.
    observed : Snapshot
        A later snapshot (that of the next tick); a model that it does not name is forgotten.
    policy : PlanPolicy, optional
        The policy of the plan.

    Returns
    -------
    Memory
        Bounded whatever happens: at most 128 wagers and 100 scores a model, 1,024 expectations.

    Examples
    --------
    >>> from balance.planning import ModelState, plan
    >>> early = Snapshot(1, 60.0, models=(ModelState("whisper", arrivals=(4.0,) * 60),))
    >>> late = Snapshot(2, 70.0, models=(ModelState("whisper", arrivals=(4.0,) * 60),))
    >>> made = plan(early, Memory(), PlanPolicy())
    >>> known = learn(Memory(), made, late).of("whisper")
    >>> known.reactive.windows, known.reactive.covered, known.reactive.error
    (1, 1, 0.0)
    """
    decisions = {decision.outlook.model_id: decision for decision in plan.decisions}
    models = tuple(
        _learn_model(memory.of(model.model_id), decisions.get(model.model_id), plan.at, observed, policy)
        for model in sorted(observed.models, key=lambda model: model.model_id)
    )
    promised = [action.expects for action in plan.actions if action.expects is not None]
    waiting = (*memory.expectations, *promised)[-MAX_EXPECTATIONS:]
    due = [one for one in waiting if one.due_at <= observed.at]
    return Memory(
        models=models,
        expectations=tuple(one for one in waiting if one.due_at > observed.at),
        tallies=_tallied(memory.tallies, due, observed),
    )


def _learn_model(
    known: ModelMemory, decision: Decision | None, planned_at: float, observed: Snapshot, policy: PlanPolicy
) -> ModelMemory:
    model = observed.model(known.model_id)
    assert model is not None, "only models of the snapshot are learnt about"
    wagers = known.wagers
    needs = known.needs
    if decision is not None:
        wagers = (*wagers, decision.outlook.wager)[-MAX_WAGERS:]
        needs = _with_need(needs, Need(planned_at, decision.outlook.needed), policy)
    forecast, reactive = known.forecast, known.reactive
    for wager in wagers:
        if wager.end > observed.at:
            continue
        arrived = model.arrived(wager.start, wager.end, observed.at)
        if arrived is None:  # older than the counts reach: nobody can tell
            continue
        reactive = reactive.after(wager.reactive, arrived, policy)
        if wager.forecast is not None:
            forecast = forecast.after(wager.forecast, arrived, policy)
    known = replace(
        known,
        forecast=forecast,
        reactive=reactive,
        wagers=tuple(wager for wager in wagers if wager.end > observed.at),
        needs=needs,
    )
    return replace(known, mode=_mode(known, policy))


def _mode(known: ModelMemory, policy: PlanPolicy) -> str:
    """Return which guess to act on from now on, by the loss of their bounds; the gap between keeps it from flapping."""
    if known.forecast.windows < policy.min_evidence:
        return known.mode
    if known.forecast.loss > policy.demote_at * known.reactive.loss:
        return "reactive"
    if known.forecast.loss < policy.promote_at * known.reactive.loss:
        return "forecast"
    return known.mode


def _with_need(needs: tuple[Need, ...], newest: Need, policy: PlanPolicy) -> tuple[Need, ...]:
    """Return the needs that may still be the largest within the settling time (a monotone queue)."""
    kept = [need for need in needs if newest.at - need.at < policy.settle_s and need.replicas > newest.replicas]
    return (*kept, newest)


def _tallied(tallies: tuple[Tally, ...], due: Iterable[Expectation], observed: Snapshot) -> tuple[Tally, ...]:
    counts = {tally.action: (tally.kept, tally.missed) for tally in tallies}
    for one in due:
        measured = measure(observed, one.metric, one.subject)
        if measured is None:
            continue
        held = measured <= one.value if one.relation == "at_most" else measured >= one.value
        kept, missed = counts.get(one.action, (0, 0))
        counts[one.action] = (kept + held, missed + (not held))
    return tuple(Tally(action, *counts[action]) for action in sorted(counts))


def measure(observed: Snapshot, metric: str, subject: str) -> float | None:
    """Return what a snapshot says about an expectation, or None if it says nothing.

    Examples
    --------
    >>> from balance.planning import ModelState
    >>> measure(Snapshot(1, 0.0, models=(ModelState("m", queued=3),)), "queued", "m")
    3.0
    """
    if metric == "resident":
        for model in observed.models:
            for need in model.data:
                if need.data_id == subject:
                    return float(need.resident)
        return None
    found = observed.model(subject)
    return None if found is None else float(getattr(found, metric))
