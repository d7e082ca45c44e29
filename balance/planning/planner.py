"""The balancing decision: one pure function from what is seen and what was learnt to what is done.

1. For each model, how many replicas keep its objective (`outlook`): what will come, from the forecast with
   a learnt bound or from just now; how long each request takes; what already waits.
2. If all of that is more than the cluster, who gets what (`sharing`): fair by priority.
3. What has to change (`steps`), room being given back before it is taken.

Growing is immediate, giving back waits until the need has stayed lower for a while: errors upwards cost
idle cores, errors downwards cost missed objectives.  The plan does not know nodes: whether an amount fits
on any one of them is checked by the resource allocator when the action is carried out.
"""

from __future__ import annotations

from balance.planning import steps
from balance.planning.decision import Decision, Plan
from balance.planning.memory import Memory
from balance.planning.outlook import Outlook, look_ahead
from balance.planning.policy import PlanPolicy
from balance.planning.sharing import Claim, fair_replicas, fits
from balance.planning.snapshot import ModelState, Snapshot
from balance.types import Resources


def plan(snapshot: Snapshot, memory: Memory, policy: PlanPolicy) -> Plan:
    """Return what to do now.

    Parameters
    ----------
    snapshot : Snapshot
        The cluster and its models at one moment.
    memory : Memory
        What `learn` has learnt so far; ``Memory()`` at the start.
    policy : PlanPolicy
        How careful to be.

    Returns
    -------
    Plan
        Equal for equal arguments.  Its grants fit in ``policy.reservable`` of the cluster; it is empty of actions
        when the last one was carried out and nothing has changed.

    Examples
    --------
    A model with four requests a second of half a second each, and nothing reserved for it yet:

    >>> model = ModelState("whisper", demand=Resources.demand(cpu=1), objective_s=5.0, service_s=0.5,
    ...                    arrivals=(4.0,) * 60, cold_start_s=1.0)
    >>> seen = Snapshot(1, 60.0, Resources.capacity(cpu=8), Resources.capacity(cpu=8), (model,))
    >>> for action in plan(seen, Memory(), PlanPolicy()).actions:
    ...     print(action.reason)
    whisper needs 3 replicas (4.6 requests/s expected by the reactive rule, 0.5 s each): 3 more are reserved.
    whisper may run 8 batches at once instead of 1 (its share is 3, and nobody else claims the rest).
    """
    models = sorted(snapshot.models, key=lambda model: model.model_id)
    outlooks = {model.model_id: look_ahead(model, memory.of(model.model_id), policy, snapshot.at) for model in models}
    wants = _wants(snapshot, models, outlooks, policy)
    granted = fair_replicas(
        [_claim(model, wants, policy) for model in models], _share(snapshot.total, policy.reservable)
    )
    parallelism = _parallelism(snapshot, models, granted, policy)
    decisions = tuple(
        Decision(outlooks[model.model_id], granted[model.model_id], parallelism[model.model_id]) for model in models
    )
    pairs = list(zip(models, decisions, strict=True))
    actions = (
        *steps.releases(pairs),
        *steps.narrower(pairs),
        *steps.reserves(pairs, snapshot),
        *steps.wider(pairs),
        *steps.priorities(pairs, snapshot.at),
        *steps.throttles(pairs, policy),
        *steps.prefetches(pairs, snapshot, policy),
        *steps.nodes(pairs, snapshot, policy),
    )
    contended = any(granted[model.model_id] < outlooks[model.model_id].wanted for model in models)
    return Plan(snapshot.tick, snapshot.at, contended, decisions, actions)


def _wants(
    snapshot: Snapshot, models: list[ModelState], outlooks: dict[str, Outlook], policy: PlanPolicy
) -> dict[str, int]:
    """Return how many replicas each model may ask for: no growth while a host runs out of memory."""
    pressed = any(host.memory_share > policy.memory_ceiling for host in snapshot.hosts)
    return {
        model.model_id: min(outlooks[model.model_id].wanted, model.replicas)
        if pressed
        else outlooks[model.model_id].wanted
        for model in models
    }


def _claim(model: ModelState, wants: dict[str, int], policy: PlanPolicy) -> Claim:
    return Claim(model.model_id, model.demand, wants[model.model_id], policy.priority_ratio ** -float(model.priority))


def _parallelism(
    snapshot: Snapshot, models: list[ModelState], granted: dict[str, int], policy: PlanPolicy
) -> dict[str, int]:
    """Return how many batches each model may run at once: its grant, and what is left if nobody else takes it.

    Never below one, so that whoever turns up is served.  A setting that is close enough is kept, since
    every grant of one model changes what is left for all others.
    """
    left = snapshot.total
    for model in models:
        left = left - model.demand.scaled(granted[model.model_id])
    allowed = {}
    for model in models:
        own = granted[model.model_id]
        spare = fits(model.demand, left, policy.scaling.max_replicas) if policy.lend else 0
        most = max(1, min(policy.scaling.max_replicas, own + spare))
        close = max(own, 0.75 * most) <= model.parallelism <= most
        allowed[model.model_id] = model.parallelism if close else most
    return allowed


def _share(total: Resources, share: float) -> Resources:
    return Resources(
        int(total.cpu_milli * share),
        int(total.memory_bytes * share),
        int(total.gpu_milli * share),
        tuple((name, int(amount * share)) for name, amount in total.custom),
    )
