"""Requests for models: accepted durably, merged, batched, supplied with data, run, answered.

The way of a request: `submit_requests` writes it to the store and acknowledges it; the model's intake
gathers what comes within the batch window and plans batches (equal requests are merged); each batch waits
for its data, which is asked for over the topics; it runs as one task of the scheduler; its results are
fanned out to every request that it stood for.  After a restart whatever was accepted and not finished is
taken up again; a request finishes once, whoever answers first.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar

from ray import cloudpickle

from actors.answers import Answers
from actors.base import Shell, ask, call_id
from actors.deployment import Deployment, Request, Runner, end_of, shown
from actors.model_coordinator import reservation_of
from actors.supply import Supply
from balance.batch.processor import Batch, BatchProcessor, Limits, RequestMerger
from balance.batch.processor.intake import Intake
from balance.client.wire import Answer, Function
from balance.errors import BalanceError, Conflict, InvalidValue, SourceUnavailable, UnknownId
from balance.types import check_id, check_int, check_number, check_priority

DEPLOYMENTS = "deployments"
FAILED = "failed"
COMPLETED = "completed"
DEAD = "dead_lettered"


class BatchesActor(Shell):
    """Takes the requests for models and sees each of them through to its answer."""

    role: ClassVar[str] = "batches"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.processor = BatchProcessor(clock=self.clock)
        self._merger = RequestMerger()
        self.models: dict[str, Deployment] = {}
        self.supply = Supply(self.clock, self.fence.epoch)
        self._answers = Answers(self.store)
        self._failures: deque[dict[str, Any]] = deque(maxlen=100)
        self._start_latency: deque[tuple[int, float]] = deque(maxlen=20_000)
        self._arrived: deque[tuple[float, str]] = deque(maxlen=200_000)
        self._ready = asyncio.Event()
        self.spawn(self._begin())

    async def closed(self) -> None:
        """Stop asking for data."""
        await self.supply.close()

    async def _begin(self) -> None:
        """Take up the models that were deployed and the requests that were accepted before a restart."""
        await self.insist(self.supply.start)
        for model_id, body in self.store.scan(DEPLOYMENTS):
            try:
                with self.store.reading() as tx:
                    blob = tx.tasks.functions([body["function"]])[body["function"]]
                self._deploy(cloudpickle.loads(blob), body)
            except Exception:  # its requests wait until it is deployed again; the other models go on
                self.log.exception("event=model_not_taken_up model=%s", model_id)
        self._ready.set()

    def _take_up(self, model: Deployment) -> None:
        """Let what was accepted for a model and has no outcome wait again."""
        with self.store.reading() as tx:
            unfinished = [row for row in tx.requests.unfinished() if row["model_id"] == model.model_id]
        for row in unfinished:
            request = Request(row["request_id"], row["payload"], row["accepted_at"], row["priority"])
            self._enqueue(model, request, row["key"])
        if unfinished:
            self.log.info("event=requests_taken_up model=%s count=%d", model.model_id, len(unfinished))

    # -- models ------------------------------------------------------------------------------------

    async def deploy_model(
        self,
        model_id: str,
        model: Any,
        *,
        objective_s: float = 10.0,
        batch_max: int = 16,
        max_age_s: Mapping[str, float] | None = None,
    ) -> dict[str, Any]:
        """Put a registered model into service.

        Parameters
        ----------
        model_id : str
            As registered at the model coordinator, which knows its demand and priority.
        model : object
            Picklable, with ``needs(request) -> list of data ids`` and ``run(requests, data) -> results``.
        objective_s : float, default 10
            How long a request may take.
        batch_max : int, default 16
            How many distinct requests run together at most.
        max_age_s : mapping of str to float, optional
            Data ids that age, with the age in seconds from which they are read anew.

        Raises
        ------
        UnknownId
            The model is not registered.
        InvalidValue
            The model lacks a method, or a number is not possible.
        """
        if not all(callable(getattr(model, method, None)) for method in ("needs", "run")):
            raise InvalidValue("model", model, "an object with the methods needs(request) and run(requests, data)")
        known = await ask("model_coordinator", "get_model_status", model_id)
        packed = Function.of(model)
        body = {
            "model_id": model_id,
            "function": packed.digest,
            "demand": known["demand"],
            "priority": known["priority"],
            "objective_s": check_number("objective_s", objective_s, minimum=0.001),
            "batch_max": check_int("batch_max", batch_max, minimum=1),
            "max_age_s": dict(max_age_s or {}),
        }

        def write(tx: Any) -> None:
            tx.tasks.put_functions({packed.digest: packed.blob})
            tx.put(DEPLOYMENTS, model_id, body)

        await self._ready.wait()
        await self.commit(write)
        self._deploy(model, body)
        return {"status": "deployed", "model_id": model_id}

    async def undeploy_model(self, model_id: str) -> None:
        """Take a model out of service; nothing happens if it is in none.  What it reserves is its coordinator's affair.

        Raises
        ------
        Conflict
            Requests for it wait or run; they are answered first.
        """
        await self._ready.wait()
        known = self.models.get(check_id("model_id", model_id))
        if known is None:
            return
        if len(known.waiting) or known.running:
            raise Conflict(
                f"model {model_id!r} has {len(known.waiting)} requests waiting and {known.running} batches running; "
                "await their answers first",
                model_id=model_id,
            )
        del self.models[model_id]
        if known.serving is not None:
            known.serving.cancel()
        self._tell_service(known, None)
        await self.commit(lambda tx: tx.delete(DEPLOYMENTS, model_id))

    def _deploy(self, model: Any, body: Mapping[str, Any]) -> None:
        known = self.models.get(body["model_id"])
        runner = Function.of(Runner(model), name=f"{body['model_id']}.run")
        fields = {name: body[name] for name in ("demand", "priority", "objective_s", "batch_max", "max_age_s")}
        if known is None:
            known = Deployment(body["model_id"], model, runner, **fields, waiting=Intake(step_s=body["objective_s"]))
            self._take_up(known)
            self.models[known.model_id] = known
            known.serving = self.spawn(self._serve(known))
        known.model, known.runner = model, runner
        for name, value in fields.items():
            setattr(known, name, value)
        self._tell_service(known, runner)

    def _tell_service(self, model: Deployment, runner: Function | None) -> None:
        """Let the scheduler have a model's code loaded where the model has reserved room."""
        name, demand = reservation_of(model.model_id), model.demand
        self.spawn(self.insist(lambda: ask("scheduler", "serve", name, runner, demand)))

    def _model(self, model_id: object) -> Deployment:
        known = self.models.get(check_id("model_id", model_id))
        if known is None:
            raise UnknownId("model", str(model_id), self.models)
        return known

    # -- intake ------------------------------------------------------------------------------------

    async def submit_requests(self, requests: list[dict[str, Any]]) -> dict[str, Any]:
        """Accept requests; what is acknowledged here is durable and will be answered.

        Parameters
        ----------
        requests : list of dict
            Each with ``model_id``, the model's own fields, and optionally ``request_id`` and ``priority``.

        Returns
        -------
        dict
            ``accepted`` (how many were new), ``request_ids`` (of all that are in, in order), ``rejected``:
            list of ``{index, error, message}`` for those that make no sense; they change nothing.
        """
        await self._ready.wait()
        now = self.clock.wall()
        rows, rejected, ids = [], [], []
        for index, fields in enumerate(requests):
            try:
                rows.append(self._row(fields, f"request-{call_id()}-{index}", now))
                ids.append(rows[-1]["request_id"])
            except BalanceError as error:
                rejected.append({"index": index, **error.to_dict()})
        new = dict.fromkeys(await self.commit(lambda tx: tx.requests.accept(rows))) if rows else {}
        for row in rows:
            if row["request_id"] in new:
                request = Request(row["request_id"], row["payload"], now, row["priority"])
                self._enqueue(self.models[row["model_id"]], request, row["key"])
        return {"accepted": len(new), "request_ids": ids, "rejected": rejected}

    def _row(self, given: Any, request_id: str, now: float) -> dict[str, Any]:
        """Check one request and return its row in the store; `request_id` is for one that brings none."""
        if not isinstance(given, dict):
            raise InvalidValue("request", given, "a dict with a model_id and the model's own fields")
        model = self._model(given.get("model_id"))
        fields = model.checked(given)
        return {
            "request_id": check_id("request_id", fields.get("request_id") or request_id),
            "model_id": model.model_id,
            "key": self._merger.key_of(fields),
            "priority": check_priority(fields.get("priority", model.priority)),
            "accepted_at": now,
            "payload": fields,
        }

    def _enqueue(self, model: Deployment, request: Request, key: str) -> None:
        model.accepted += 1
        self._arrived.append((request.accepted_at, model.model_id))
        model.waiting.add(key, request.priority, request.accepted_at, request)
        model.wake.set()

    async def answer(self, request_id: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait for the answer of an accepted request.

        Returns
        -------
        dict
            ``status`` (``completed | failed | dead_lettered``, or ``pending`` after `timeout_s`),
            ``request_id``, ``result`` or ``error``.

        Raises
        ------
        UnknownId
            No such request was accepted.
        """
        return await self._answers.of(request_id, timeout_s)

    # -- serving -----------------------------------------------------------------------------------

    async def _serve(self, model: Deployment) -> None:
        """Gather for the window, take one batch, run it, as often and as wide as the balancer lets the model."""
        while True:
            await model.wake.wait()
            if model.waiting.distinct < model.batch_max:
                await asyncio.sleep(model.window_s)
            while model.running >= model.parallelism:
                model.slot.clear()
                await model.slot.wait()
            requests = model.waiting.take(await self._let_in(model))
            if not len(model.waiting):
                model.wake.clear()
            for batch in self._planned(model, requests):
                model.running += 1
                self.spawn(self._run_batch(model, batch, dict(enumerate(requests))))

    def _planned(self, model: Deployment, requests: list[Request]) -> list[Batch]:
        """Return the batches of these requests; where no plan is possible, they have failed and the model goes on."""
        asked = [{**each.fields, "priority": each.priority, "request_id": each.request_id} for each in requests]
        try:
            return self.processor.plan(asked, model.priority, {model.model_id: Limits(model.batch_max)})
        except Exception as error:
            self.log.exception("event=not_planned model=%s requests=%d", model.model_id, len(requests))
            body = {"result": None, "error": shown(error).to_dict()}
            ends = [end_of(each.request_id, FAILED, body, self.clock.wall()) for each in requests]
            self.spawn(self._finish(model, ends))
            return []

    async def _let_in(self, model: Deployment) -> int:
        """Return how many distinct requests may go now; under a throttle, wait for the next one's turn."""
        while (granted := model.admit(self.clock.now())) is None:
            await asyncio.sleep(model.admission_wait_s())
        return granted

    async def _run_batch(self, model: Deployment, batch: Batch, by_index: dict[int, Request]) -> None:
        otherwise = FAILED
        try:
            results = await self._results(model, batch, [by_index[m.index] for group in batch.members for m in group])
            outcomes = self.processor.fan_out(batch, results)
        except Exception as error:
            self.log.warning("event=batch_failed model=%s batch=%s error=%r", model.model_id, batch.batch_id, error)
            otherwise = DEAD if isinstance(error, SourceUnavailable) else FAILED
            outcomes = self.processor.fan_out(batch, [shown(error)] * len(batch.requests))
        finally:
            model.running -= 1
            model.slot.set()
        now, ends = self.clock.wall(), []
        for outcome in outcomes:
            body = {"result": outcome.result, "error": outcome.to_dict()["error"]}
            state = COMPLETED if outcome.status == COMPLETED else otherwise
            ends.append(end_of(by_index[outcome.index].request_id, state, body, now))
        await self._finish(model, ends)

    async def _results(self, model: Deployment, batch: Batch, requests: list[Request]) -> list[Any]:
        needed = sorted({data_id for request in batch.requests for data_id in model.model.needs(request)})
        priority = model.boosted_to or batch.priority
        task_id = f"batch:{model.model_id}:{uuid.uuid4().hex[:12]}"
        locations = await self.supply.hold(task_id, model.model_id, needed, model.max_age_s, priority)
        try:
            submitted_at = self.clock.wall()
            outcome = await ask(
                "scheduler",
                "run_call",
                task_id,
                model.runner.call([dict(request) for request in batch.requests], locations),
                model.runner.blob,
                demand=model.demand,
                priority=priority,
                reservation=reservation_of(model.model_id),
                name=f"{model.model_id}[{len(batch.requests)}]",
                patience_s=None,
            )
        finally:
            await self.supply.release(task_id)
        if outcome["status"] != "completed":
            raise BalanceError(f"the batch is {outcome['status']}: {outcome['reason']}", error=outcome["error"])
        answer: Answer = outcome["answer"]
        waited = submitted_at + outcome["queued_s"]
        for request in requests:
            self._start_latency.append((request.priority, max(0.0, waited - request.accepted_at)))
        model.batches += 1
        model.executed += len(batch.requests)
        model.run_s += answer.run_s
        results: list[Any]
        results, load_s = cloudpickle.loads(answer.value or b"")
        model.recent_service_s.append(max(0.0, answer.run_s - load_s) / max(1, batch.count))
        model.answered_in_batches += batch.count
        return results

    async def _finish(self, model: Deployment, rows: list[dict[str, Any]]) -> None:
        """Write how requests ended, then tell who waits; each ends once, whoever is first."""
        won = set(await self.insist(lambda: self.commit(lambda tx: tx.requests.finish(rows))))
        for row in rows:
            if row["request_id"] not in won:
                self._answers.look(row["request_id"])  # it had ended already, and that end counts
                continue
            setattr(model, row["state"], getattr(model, row["state"]) + 1)
            if row["outcome"]["error"]:
                self._failures.append({"at": row["finished_at"], "where": model.model_id, **row["outcome"]["error"]})
            self._answers.tell(row)

    # -- what the balancer sets, and what is measured -------------------------------------------------

    async def set_parallelism(self, model_id: str, parallelism: int) -> None:
        """Let so many batches of a model run at once."""
        await self._ready.wait()
        model = self._model(model_id)
        model.parallelism = check_int("parallelism", parallelism, minimum=0)
        model.slot.set()

    async def set_priority(self, model_id: str, priority: int | None) -> None:
        """Run the model's batches at this priority; None for their own."""
        await self._ready.wait()
        self._model(model_id).boosted_to = None if priority is None else check_priority(priority)

    async def set_intake(self, model_id: str, window_s: float, admission_per_s: float | None) -> None:
        """Set how long intake gathers, and how many requests a second it lets through (None: all)."""
        await self._ready.wait()
        model = self._model(model_id)
        model.window_s = check_number("window_s", window_s, minimum=0)
        model.admission_per_s = admission_per_s

    async def prefetch(self, model_id: str, data_id: str) -> None:
        """Ask for a piece of data before a request needs it."""
        await self._ready.wait()
        model = self._model(model_id)
        await self.supply.bring(model_id, data_id, model.max_age_s.get(data_id), model.priority)

    async def failures(self) -> list[dict[str, Any]]:
        """Return why the last requests failed: ``at`` (POSIX seconds), ``where`` (model), ``error``, ``message``."""
        return list(self._failures)

    async def stats_only(self) -> dict[str, Any]:
        """Return ``models``: per model what waits, runs and was done."""
        await self._ready.wait()  # "no models" would be a lie while they are being taken up
        return {"models": {model.model_id: model.stats(self.clock.wall()) for model in self.models.values()}}

    async def stats(self) -> dict[str, Any]:
        """Return `stats_only`, ``data``, and what came since the last call: ``arrived``, ``start_latency``."""
        news = {"arrived": [*self._arrived], "start_latency": [*self._start_latency]}
        self._arrived.clear()
        self._start_latency.clear()
        return {**await self.stats_only(), **news, "data": self.supply.stats()}
