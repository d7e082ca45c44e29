"""The balancing loop: observe, forecast, plan, act, learn, at every tick.

The plan is `balance.planning.plan`, a pure function; this shell gathers its snapshot, carries out its
actions, and keeps every plan with its reasons in the store, where `explain` reads them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections import deque
from typing import Any, ClassVar

from ray.autoscaler.sdk import request_resources
from ray.util.metrics import Gauge

from actors.base import Shell, ask
from actors.guards import guards_of
from actors.sight import Known, forecast_step_s, snapshot_of
from actors.starts import Starts
from balance import planning
from balance.adapters.ray_places import bundle
from balance.clock import iso
from balance.planning import (
    Memory,
    Plan,
    PlanPolicy,
    ScalingPolicy,
    Situation,
    Snapshot,
)
from balance.types import Resources

STEPS = 480
"""Of how many steps of the history the arrivals are looked at: from them a model that is new to the loop is learnt."""
HORIZON_STEPS = 24

SETTLE_TICKS = 6
"""How many ticks a lower need has to last before anything is given back."""

PATIENCE_S = 5.0
"""How long the forecasts are awaited, beside the turns of the loop."""

TICKS_KEPT = 3600
"""Of how many ticks it is remembered how late they were and how long they took."""

KEPT_DECISIONS = 10_000
MEMORY = "balancer"


class BalancerActor(Shell):
    """Keeps the models, their resources and their data in balance."""

    role: ClassVar[str] = "balancer"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        tick_s = self.settings.tick_s
        self.step_s = max(1.0, round(tick_s / 5))
        usual = PlanPolicy(scaling_policy(tick_s))
        known = self.store.get(MEMORY, "memory")
        self.memory = Memory.from_dict(known) if known else Memory()
        kept = self.store.get(MEMORY, "tick") or {}
        self.tick = int(kept.get("tick", 0))
        self.scaled: set[str] = set(kept.get("scaled", ()))
        self.starts = Starts.from_dict(kept.get("starts", {}))
        self.policy = usual.changed(**kept.get("policy", {}))
        self.changes: dict[str, Any] = dict(kept.get("policy", {}))
        self.nodes_asked = tuple((Resources.from_dict(each), int(n)) for each, n in kept.get("nodes_asked", ()))
        self.last: Plan | None = None
        self.seen: Situation | None = None
        self.replicas: dict[str, int] = {}
        self.forecasts: dict[str, dict[str, Any]] = {}
        self.models: list[str] = []
        self.reach_s = tick_s
        self.failures = 0
        self._leads = Gauge("balance_forecast_leads", "1 where a model is scaled by its forecast.", tag_keys=("model",))
        self._late = Gauge("balance_tick_late_seconds", "How long after its moment the last tick began.")
        self.late_s: deque[float] = deque(maxlen=TICKS_KEPT)
        self.took_s: deque[float] = deque(maxlen=TICKS_KEPT)
        self.spawn(self.every(tick_s, self.turn, self._note_late))
        self.spawn(self.every(self.step_s, self.follow_forecasts))

    def _note_late(self, late_s: float) -> None:
        self.late_s.append(late_s)
        self._late.set(late_s)

    async def follow_forecasts(self) -> None:
        """Get the latest forecasts; where nobody answers, the last ones stay until they reach no further."""
        grid = (forecast_step_s(self.reach_s, HORIZON_STEPS), HORIZON_STEPS)
        try:
            self.forecasts = await ask("prediction", "rates", *grid, self.models, patience_s=PATIENCE_S)
        except Exception as error:
            self.log.warning("event=forecasts_missing tick=%d error=%s", self.tick, type(error).__name__)

    async def turn(self) -> None:
        """Take one turn of the loop; a part that does not answer ends the turn, not the loop."""
        began = self.clock.now()
        self.tick += 1
        observed = await ask("monitoring", "observe", self.step_s, STEPS)
        if "batches" not in observed or "resource_allocator" not in observed:
            return
        self.models = sorted(observed["batches"]["models"])
        models = await ask("model_coordinator", "list_models")
        self.replicas = {each["model_id"]: (each["allocation"] or {}).get("replicas", 0) for each in models}
        await self._let_go(set(observed["batches"]["models"]))
        now = self.clock.wall()
        self.starts.look(now, observed["resource_allocator"]["cluster"]["total"]["cpu"])
        known = Known(self.replicas, self.forecasts, self.starts, self.nodes_asked, self.settings.autoscaling)
        snapshot = snapshot_of(self.tick, now, observed, known, self.step_s)
        self.reach_s = self.settings.tick_s + max(map(_lead_s, snapshot.models), default=0.0)
        if self.last is not None:
            self.memory = planning.learn(self.memory, self.last, snapshot, self.policy)
        self.seen = Situation(snapshot, self.memory, self.policy)
        plan = self.seen.plan()
        failed = await self._act(plan)
        self.last = plan
        await self._remember(snapshot, plan, failed)
        self.took_s.append(self.clock.now() - began)

    async def closed(self) -> None:
        """Take back what was asked of the autoscaler: nobody would follow the need down any more."""
        if self.nodes_asked:
            await self._ask_for_nodes(())
            kept = self._kept()
            await self.commit(lambda tx: tx.put(MEMORY, "tick", kept))

    # -- act ---------------------------------------------------------------------------------------

    async def _let_go(self, in_service: set[str]) -> None:
        """Give back what was reserved here for models that have left service; what others reserved is theirs."""
        for model_id in sorted(self.scaled - in_service):
            await ask("model_coordinator", "scale_model", model_id, 0)
            self.scaled.discard(model_id)

    async def _act(self, plan: Plan) -> list[dict[str, Any]]:
        """Carry out the actions in their order; what failed is returned and planned anew at the next tick."""
        failed = []
        for action in plan.actions:
            try:
                await self._carry_out(action)
            except Exception as error:
                self.failures += 1
                failed.append({"action": action.kind, "error": f"{type(error).__name__}: {error}".splitlines()[0]})
                self.log.warning("event=action_failed tick=%d action=%s error=%r", plan.tick, action.kind, error)
        return failed

    async def _carry_out(self, action: Any) -> None:
        match action:
            case planning.Reserve() | planning.Release():
                more = action.replicas if isinstance(action, planning.Reserve) else -action.replicas
                wanted = max(0, self.replicas.get(action.model_id, 0) + more)
                await self._note_scaled(action.model_id)
                answer = await ask("model_coordinator", "scale_model", action.model_id, wanted)
                self.replicas[action.model_id] = answer["replicas"]
            case planning.SetParallelism():
                await ask("batches", "set_parallelism", action.model_id, action.parallelism)
            case planning.SetPriority():
                await ask("batches", "set_priority", action.model_id, action.priority)
            case planning.Throttle():
                await ask("batches", "set_intake", action.model_id, action.batch_window_s, action.admission_per_s)
            case planning.Prefetch():
                await ask("batches", "prefetch", action.model_id, action.data_id)
            case planning.RequestNodes():
                await self._ask_for_nodes(action.bundles)

    async def _ask_for_nodes(self, bundles: tuple[tuple[Resources, int], ...]) -> None:
        """Tell Ray's autoscaler which cluster is wanted, and remember it: Ray holds on to that until told anew."""
        amounts = [bundle(amount) for amount, count in bundles for _ in range(count)]
        await asyncio.to_thread(request_resources, bundles=amounts)
        self.nodes_asked = bundles
        self.starts.asked(self.clock.wall(), sum(amount.cpu * count for amount, count in bundles))

    # -- remember ----------------------------------------------------------------------------------

    def _kept(self) -> dict[str, Any]:
        return {
            "tick": self.tick,
            "scaled": sorted(self.scaled),
            "policy": dict(self.changes),
            "starts": self.starts.to_dict(),
            "nodes_asked": [[amount.to_dict(), count] for amount, count in self.nodes_asked],
        }

    async def _note_scaled(self, model_id: str) -> None:
        """Write down, before it happens, that a model's reservation is of this actor's making: it must not be left."""
        if model_id not in self.scaled:
            self.scaled.add(model_id)
            kept = self._kept()
            await self.commit(lambda tx: tx.put(MEMORY, "tick", kept))

    async def _remember(self, snapshot: Snapshot, plan: Plan, failed: list[dict[str, Any]]) -> None:
        written = json.dumps(snapshot.to_dict(), sort_keys=True)
        digest = hashlib.blake2b(written.encode(), digest_size=16).hexdigest()
        body = {
            "plan": plan.to_dict(),
            "failed": failed,
            "forecasts": self._forecast_points(),
            "guards": self._guards(plan),
        }
        kept = self._kept()

        def write(tx: Any) -> None:
            seq = tx.decisions.append(plan.at, digest, body)
            tx.put(MEMORY, "memory", self.memory.to_dict())
            tx.put(MEMORY, "tick", kept)
            if seq % 100 == 0:
                tx.decisions.prune(KEPT_DECISIONS)

        await self.commit(write)
        for action in plan.actions:
            self.log.info("event=action tick=%d kind=%s reason=%s", plan.tick, action.kind, action.reason)

    def _guards(self, plan: Plan) -> dict[str, dict[str, Any]]:
        found = guards_of(plan, self.memory)
        for model_id, guard in found.items():
            self._leads.set(float(guard["by"] == "forecast"), tags={"model": model_id})
        return found

    def _forecast_points(self) -> dict[str, dict[str, Any]]:
        """Return the first step of each forecast, as requests per second: what a report draws."""
        points = {}
        for model_id, made in self.forecasts.items():
            with contextlib.suppress(KeyError, IndexError):
                points[model_id] = {
                    name: made["quantiles"][quantile][0] / made["step_s"]
                    for name, quantile in (("q10", "0.1"), ("q50", "0.5"), ("q90", "0.9"))
                } | {name: made[name] for name in ("method", "step_s", "status", "age_s")}
        return points

    async def decisions(self, last: int = 5) -> list[dict[str, Any]]:
        """Return the last plans with their reasons, newest first.

        Returns
        -------
        list of dict
            ``tick``, ``at`` (ISO 8601), ``at_s`` (POSIX), ``summary`` (a sentence), ``reasons`` (sentences),
            ``actions`` (each with its ``kind`` and numbers), ``failed``, ``forecasts``, ``guards`` (see `guards_of`).
        """
        with self.store.reading() as tx:
            rows = tx.decisions.latest(last)
        found = []
        for row in rows:
            plan = Plan.from_dict(row["plan"]["plan"])
            sentences = planning.explain(plan)
            found.append(
                {
                    "tick": plan.tick,
                    "at": iso(plan.at),
                    "at_s": plan.at,
                    "summary": sentences[0],
                    "reasons": sentences[1:],
                    "actions": [{"kind": action.kind, **action.to_dict()} for action in plan.actions],
                    "failed": row["plan"]["failed"],
                    "forecasts": row["plan"]["forecasts"],
                    "guards": row["plan"]["guards"],
                }
            )
        return found

    async def situation(self) -> dict[str, Any] | None:
        """Return what the last plan was made from, as `balance.planning.Situation` has it; None before the first."""
        return None if self.seen is None else self.seen.to_dict()

    async def set_policy(self, **changes: Any) -> dict[str, Any]:
        """Change settings of the decision, from the next tick on and beyond restarts.

        Parameters
        ----------
        **changes
            Settings of `balance.planning.PlanPolicy` or its `ScalingPolicy`, such as ``coverage=0.95`` or
            ``lead="reactive"``.

        Returns
        -------
        dict
            All fields as they are now.

        Raises
        ------
        InvalidValue
            There is no such field, or the value is not possible; nothing is changed.
        """
        self.policy = self.policy.changed(**changes)
        self.changes.update(changes)
        kept = self._kept()
        await self.commit(lambda tx: tx.put(MEMORY, "tick", kept))
        return self.policy.to_dict()

    async def stats(self) -> dict[str, Any]:
        """Return how the loop is doing.

        Returns
        -------
        dict
            ``tick``, ``replicas`` by model, ``failures`` (actions that could not be carried out), ``cold_start_s`` by
            model and ``node_start_s`` (as measured), ``nodes_asked`` (how many bundles), and of the last ticks
            ``late_s`` (how long after its moment each began) and ``took_s``.
        """
        seen = self.seen.snapshot.models if self.seen is not None else ()
        return {
            "tick": self.tick,
            "replicas": dict(self.replicas),
            "failures": self.failures,
            "cold_start_s": {model.model_id: model.cold_start_s for model in seen},
            "node_start_s": self.starts.node_s,
            "nodes_asked": sum(count for _, count in self.nodes_asked),
            "late_s": list(self.late_s),
            "took_s": list(self.took_s),
        }


def _lead_s(model: planning.ModelState) -> float:
    """Return how far ahead of its demand a model has to be served: its start, or the data that it would wait for."""
    return max([model.cold_start_s + model.objective_s, *(need.fetch_s for need in model.data if not need.resident)])


def scaling_policy(tick_s: float) -> ScalingPolicy:
    """Return how the loop scales: as its ticks are, since nothing can be decided between two of them.

    Examples
    --------
    >>> scaling_policy(10.0).window_s
    40.0
    """
    return ScalingPolicy(bin_s=tick_s, window_s=4 * tick_s, drain_s=4 * tick_s, settle_s=SETTLE_TICKS * tick_s)
