"""From decisions to actions: what differs from how things are, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from balance.planning.actions import (
    Expectation,
    Prefetch,
    Release,
    RequestNodes,
    Reserve,
    SetParallelism,
    SetPriority,
    Throttle,
)
from balance.planning.decision import Decision
from balance.planning.policy import PlanPolicy
from balance.planning.sharing import fits
from balance.planning.snapshot import DataNeed, ModelState, Snapshot

Pairs = Sequence[tuple[ModelState, Decision]]

LIKELY_USES = math.log(2)
"""With so many expected, one use at least is as likely as none (Poisson)."""


def releases(pairs: Pairs) -> Iterator[Release]:
    """Yield what models hold beyond their share."""
    for model, decision in pairs:
        surplus = model.replicas - decision.granted
        if surplus > 0:
            why = "its share shrank" if decision.outlook.wanted > decision.granted else f"it needs {decision.granted}"
            yield Release(
                model_id=model.model_id,
                replicas=surplus,
                amount=model.demand.scaled(surplus),
                reason=f"{model.model_id} holds {_replicas(model.replicas)}, {why}: {surplus} given back.",
                because=_numbers(model, decision),
            )


def reserves(pairs: Pairs, snapshot: Snapshot) -> Iterator[Reserve]:
    """Yield what models lack of their share, as far as it is free after the releases, the most urgent first."""
    room = snapshot.free
    for model, decision in pairs:
        room = room + model.demand.scaled(max(0, model.replicas - decision.granted))
    for model, decision in sorted(pairs, key=lambda pair: (pair[0].priority, pair[0].model_id)):
        lacking = decision.granted - model.replicas
        now = fits(model.demand, room, lacking) if lacking > 0 else 0
        if now <= 0:
            continue
        room = room - model.demand.scaled(now)
        rest = "" if now == lacking else f", {lacking - now} wait for room"
        yield Reserve(
            model_id=model.model_id,
            replicas=now,
            amount=model.demand.scaled(now),
            reason=f"{model.model_id} needs {_replicas(decision.outlook.wanted)} ({demand_in_words(model, decision)}): "
            f"{now} more {'is' if now == 1 else 'are'} reserved{rest}.",
            because=_numbers(model, decision),
            expects=Expectation(
                metric="oldest_wait_s",
                subject=model.model_id,
                relation="at_most",
                value=model.objective_s,
                due_at=snapshot.at + model.cold_start_s + model.objective_s,
                action=Reserve.kind,
            ),
        )


def narrower(pairs: Pairs) -> Iterator[SetParallelism]:
    """Yield the models that may run fewer batches at once than now."""
    return _parallelism(pair for pair in pairs if pair[1].parallelism < pair[0].parallelism)


def wider(pairs: Pairs) -> Iterator[SetParallelism]:
    """Yield the models that may run more batches at once than now."""
    return _parallelism(pair for pair in pairs if pair[1].parallelism > pair[0].parallelism)


def _parallelism(pairs: Iterator[tuple[ModelState, Decision]]) -> Iterator[SetParallelism]:
    for model, decision in pairs:
        spare = ", and nobody else claims the rest" if decision.parallelism > decision.granted else ""
        yield SetParallelism(
            model_id=model.model_id,
            parallelism=decision.parallelism,
            reason=f"{model.model_id} may run {decision.parallelism} batches at once instead of {model.parallelism} "
            f"(its share is {decision.granted}{spare}).",
            because=_numbers(model, decision),
        )


def priorities(pairs: Pairs, at: float) -> Iterator[SetPriority]:
    """Yield models that are late (lifted by one) and lifted ones that have caught up (back to their own).

    Between half the objective and the objective nothing changes, so that a model at the edge does not flap.
    """
    for model, decision in pairs:
        late = model.oldest_wait_s > model.objective_s and model.queued > 0
        waited = f"its oldest request has waited {model.oldest_wait_s:.3g} s of {model.objective_s:.3g} s"
        if late and model.boosted_to is None and model.priority > 1:
            lifted = model.priority - 1
            yield SetPriority(
                model_id=model.model_id,
                priority=lifted,
                reason=f"{model.model_id} is late, {waited}: it runs at priority {lifted} until it has caught up.",
                because=_numbers(model, decision),
                expects=Expectation(
                    metric="oldest_wait_s",
                    subject=model.model_id,
                    relation="at_most",
                    value=model.objective_s,
                    due_at=at + model.objective_s,
                    action=SetPriority.kind,
                ),
            )
        elif model.boosted_to is not None and model.oldest_wait_s < 0.5 * model.objective_s:
            yield SetPriority(
                model_id=model.model_id,
                priority=None,
                reason=f"{model.model_id} has caught up, {waited}: it runs at its own priority {model.priority} again.",
                because=_numbers(model, decision),
            )


def throttles(pairs: Pairs, policy: PlanPolicy) -> Iterator[Throttle]:
    """Yield changes of the batch window and of the admission rate.

    Busy models gather requests for a little while, which makes batches fuller and merges more of them; a
    model whose share can't carry what comes lets in what it can carry, so that waiting happens at intake, where
    requests can still be merged, instead of in the queue.
    """
    for model, decision in pairs:
        if model.service_s is None or model.service_s <= 0:
            continue
        rate = decision.outlook.recent_per_s
        carried = policy.max_utilisation * max(1, decision.parallelism) / model.service_s
        window_s = _batch_window(model, rate, carried, policy)
        admission = carried if decision.granted < decision.outlook.wanted and rate > carried else None
        if not (_differs(window_s, model.batch_window_s) or _differs(admission, model.admission_per_s)):
            continue
        limit = "everything is let in" if admission is None else f"{admission:.3g} requests/s are let in"
        yield Throttle(
            model_id=model.model_id,
            batch_window_s=window_s,
            admission_per_s=admission,
            reason=f"{model.model_id} gets {rate:.3g} requests/s and can carry {carried:.3g}: batches gather for "
            f"{window_s:.3g} s, {limit}.",
            because=_numbers(model, decision) | {"carried_per_s": carried},
        )


def prefetches(pairs: Pairs, snapshot: Snapshot, policy: PlanPolicy) -> Iterator[Prefetch]:
    """Yield data that will be needed within its fetch time and a margin, soonest first, within the budget.

    When that is, the gaps between its uses say, or the forecast of its model's requests, whichever is sooner: after a
    quiet night only the forecast knows.
    """
    if any(host.memory_share > policy.memory_ceiling for host in snapshot.hosts):
        return
    room = snapshot.data_free_bytes
    taken: set[str] = set()
    due: list[tuple[float, int, str, ModelState, DataNeed]] = []
    for model, _ in pairs:
        for need in model.data:
            next_use = None if need.resident or need.fetching else _next_use(need, model, snapshot.at)
            if next_use is None:
                continue
            ahead_s = next_use - snapshot.at
            if need.max_age_s is not None and ahead_s > need.max_age_s:
                continue  # a copy made now would be too old
            if ahead_s <= need.fetch_s + policy.prefetch_ahead_s:
                due.append((max(next_use, snapshot.at), model.priority, need.data_id, model, need))
    for next_use, _, data_id, model, need in sorted(due, key=lambda one: one[:3]):
        if len(taken) >= policy.max_prefetches:
            return
        if data_id in taken or need.size_bytes > room:
            continue
        taken.add(data_id)
        room -= need.size_bytes
        yield Prefetch(
            data_id=data_id,
            model_id=model.model_id,
            size_bytes=need.size_bytes,
            reason=f"{model.model_id} will ask for {data_id} ({need.size_bytes} bytes) in "
            f"{next_use - snapshot.at:.3g} s and fetching takes {need.fetch_s:.3g} s: it is fetched now.",
            because={"next_use_in_s": next_use - snapshot.at, "fetch_s": need.fetch_s, "free_bytes": room},
            expects=Expectation(
                metric="resident",
                subject=data_id,
                relation="at_least",
                value=1.0,
                due_at=max(next_use, snapshot.at + need.fetch_s),
                action=Prefetch.kind,
            ),
        )


def _next_use(need: DataNeed, model: ModelState, at: float) -> float | None:
    """Return when a piece of data is needed next; None where nothing says so."""
    known = [] if need.next_use_at is None else [need.next_use_at]
    if model.forecast is not None and model.forecast.status == "ok" and need.share > 0:
        expected = model.forecast.reaches(LIKELY_USES / need.share, at)
        known += [] if expected is None else [expected]
    if model.queued and not known:
        known = [at]
    return min(known, default=None)


def nodes(pairs: Pairs, snapshot: Snapshot, policy: PlanPolicy) -> Iterator[RequestNodes]:
    """Yield the cluster in whose reservable share all that models want would fit, if it does not fit in this one's.

    Once nodes were asked for, the demand follows the need down instead of being dropped: without it the
    autoscaler would remove the very nodes that made everything fit.
    """
    if not snapshot.autoscaling:
        return
    short = [pair for pair in pairs if pair[1].granted < pair[1].outlook.wanted]
    asking = bool(short or snapshot.nodes_asked)
    bundles = tuple(
        (m.demand, math.ceil(d.outlook.wanted / policy.reservable)) for m, d in pairs if asking and d.outlook.wanted > 0
    )
    if bundles == snapshot.nodes_asked:
        return
    wanted = sum(decision.outlook.wanted for _, decision in pairs)
    missing = sum(decision.outlook.wanted - decision.granted for _, decision in short)
    names = ", ".join(model.model_id for model, _ in short)
    if short:
        reason = f"{_replicas(missing)} of {names} do not fit: a cluster that holds {wanted} is asked for."
    else:
        reason = f"Everything fits: a cluster that holds {_replicas(wanted)} is enough."
    because = {"missing_replicas": missing, "wanted_replicas": wanted, "reservable": policy.reservable}
    yield RequestNodes(bundles=bundles, reason=reason, because=because)


def demand_in_words(model: ModelState, decision: Decision) -> str:
    """Return what a need is made of, for a person."""
    outlook = decision.outlook
    if outlook.source == "unmeasured":
        return "its run time is not known yet"
    by = "the forecast" if outlook.source == "forecast" else "the reactive rule"
    words = f"{outlook.rate_per_s:.3g} requests/s expected by {by}, {model.service_s:.3g} s each"
    if model.queued:
        words += f", {model.queued} queued for {model.objective_s:.3g} s"
    return words


def _batch_window(model: ModelState, rate: float, carried: float, policy: PlanPolicy) -> float:
    """Return the time in which a batch fills, at most a share of the objective; 0 while there is room."""
    busy = rate / carried
    # A lower mark to stop than to start, so that a load at the edge does not flap.
    if busy < (0.4 if model.batch_window_s > 0 else 0.5) or rate <= 0:
        return 0.0
    return min(policy.batch_share * model.objective_s, model.batch_size / rate)


def _differs(new: float | None, old: float | None) -> bool:
    """Say whether two settings differ by more than a quarter: less is not worth an action."""
    if new is None or old is None:
        return new is not old
    return abs(new - old) > 0.25 * max(new, old)


def _numbers(model: ModelState, decision: Decision) -> dict[str, float | int | str | None]:
    outlook = decision.outlook
    return {
        "source": outlook.source,
        "rate_per_s": outlook.rate_per_s,
        "recent_per_s": outlook.recent_per_s,
        "service_s": model.service_s,
        "queued": model.queued,
        "oldest_wait_s": model.oldest_wait_s,
        "objective_s": model.objective_s,
        "load": outlook.load,
        "needed": outlook.needed,
        "wanted": outlook.wanted,
        "granted": decision.granted,
        "replicas": model.replicas,
        "parallelism": model.parallelism,
    }


def _replicas(count: int) -> str:
    return f"{count} replica" + ("" if count == 1 else "s")
