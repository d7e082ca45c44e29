"""A plan in sentences, for a person."""

from __future__ import annotations

from balance.planning.decision import Plan


def explain(plan: Plan) -> list[str]:
    """Return what was seen, what is done and why, one sentence each; the first one sums up.

    Examples
    --------
    >>> explain(Plan(7, 0.0, False, (), ()))
    ['Tick 7: no model is registered, so there is nothing to balance.']
    """
    if not plan.decisions:
        return [f"Tick {plan.tick}: no model is registered, so there is nothing to balance."]
    wanted = sum(decision.outlook.wanted for decision in plan.decisions)
    granted = sum(decision.granted for decision in plan.decisions)
    fit = f"of which {granted} fit" if plan.contended else "and all of them fit"
    count = len(plan.actions)
    done = "nothing has to change" if not count else "1 thing changes" if count == 1 else f"{count} things change"
    models = "1 model wants" if len(plan.decisions) == 1 else f"{len(plan.decisions)} models want"
    sentences = [f"Tick {plan.tick}: {models} {wanted} replicas, {fit}; {done}."]
    for decision in plan.decisions:
        outlook = decision.outlook
        if outlook.wanted > decision.granted:
            sentences.append(
                f"{outlook.model_id} wants {outlook.wanted} replicas for a load of {outlook.load:.3g} and gets "
                f"{decision.granted}: that is its share of the cluster."
            )
        elif outlook.wanted > outlook.needed:
            sentences.append(
                f"{outlook.model_id} needs {outlook.needed} now and keeps {outlook.wanted} until the need has settled."
            )
    return [*sentences, *(action.reason for action in plan.actions)]
