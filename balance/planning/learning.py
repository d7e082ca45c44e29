"""What a tick teaches: were the bounds right, does the forecast pay, did the actions do what they promised."""

from __future__ import annotations

from collections.abc import Iterable

from balance.planning.actions import Expectation
from balance.planning.decision import Plan
from balance.planning.memory import Memory, ModelMemory, Tally
from balance.planning.outlook import observed as seen
from balance.planning.policy import PlanPolicy
from balance.planning.scaling.scaler import scale
from balance.planning.snapshot import Snapshot

#: Bound of what is kept while it waits to be judged.
MAX_EXPECTATIONS = 1024


def learn(memory: Memory, plan: Plan, observed: Snapshot, policy: PlanPolicy = PlanPolicy()) -> Memory:  # noqa: B008 (frozen)
    """Return what is known after a plan and the snapshot that followed it.  Pure.

    What was expected is compared with what came, and the guard asks whether the forecast pays
    (`balance.planning.scaling`); what the actions promised is compared with what is seen.

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
        Bounded whatever happens.

    Examples
    --------
    >>> from balance.planning import ModelState, plan
    >>> early = Snapshot(1, 60.0, models=(ModelState("whisper", arrivals=(4.0,) * 60),))
    >>> late = Snapshot(2, 70.0, models=(ModelState("whisper", arrivals=(4.0,) * 60),))
    >>> made = plan(early, Memory(), PlanPolicy())
    >>> learn(Memory(), made, late).of("whisper").scaling.expects.rates.recent
    (4.0, 4.0, 4.0)
    """
    models = tuple(
        ModelMemory(
            model.model_id, scale(seen(model, observed.at), memory.of(model.model_id).scaling, policy.scaling)[1]
        )
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
