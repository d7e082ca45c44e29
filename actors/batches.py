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
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from ray import cloudpickle

from actors.base import Shell, ask
from actors.deployment import Deployment, Request
from actors.executors import Answer, Function
from actors.model_coordinator import reservation_of
from actors.supply import Supply
from balance.batch.processor import Batch, BatchProcessor, Limits, RequestMerger
from balance.batch.processor.intake import Intake
from balance.errors import BalanceError, InvalidValue, SourceUnavailable, UnknownId
from balance.types import check_id, check_int, check_number, check_priority

DEPLOYMENTS = "deployments"
FAILED = "failed"
COMPLETED = "completed"
DEAD = "dead_lettered"


def run_model(model: Any, requests: Sequence[Mapping[str, Any]], locations: Mapping[str, str]) -> list[Any]:
    """Run one batch in an executor: read the data at its locations, answer every request."""
    from actors.shelf import read  # noqa: PLC0415 (runs in the executor's process)

    results: list[Any] = model.run(requests, {data_id: read(at) for data_id, at in sorted(locations.items())})
    return results


class BatchesActor(Shell):
    """Takes the requests for models and sees each of them through to its answer."""

    role: ClassVar[str] = "batches"

    def __init__(self, settings: dict[str, Any]) -> None:
        super().__init__(settings)
        self.processor = BatchProcessor(clock=self.clock)
        self._merger = RequestMerger()
        self.models: dict[str, Deployment] = {}
        self.supply = Supply(self.clock)
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._failures: deque[dict[str, Any]] = deque(maxlen=100)
        self._start_latency: deque[tuple[int, float]] = deque(maxlen=20_000)
        self._arrived: deque[tuple[float, str]] = deque(maxlen=200_000)
        self.spawn(self._recover())

    async def closed(self) -> None:
        """Stop asking for data."""
        await self.supply.close()

    async def _recover(self) -> None:
        """Take up the models that were deployed and the requests that were accepted before a restart."""
        await self.supply.start()
        for _model_id, body in self.store.scan(DEPLOYMENTS):
            with self.store.reading() as tx:
                blob = tx.tasks.functions([body["function"]])[body["function"]]
            self._deploy(cloudpickle.loads(blob), body)
        with self.store.reading() as tx:
            unfinished = tx.requests.unfinished()
        for row in unfinished:
            model = self.models.get(row["model_id"])
            if model is not None:
                self._enqueue(model, Request(row["request_id"], row["payload"], row["accepted_at"], row["priority"]))
        if unfinished:
            self.log.info("event=requests_taken_up count=%d", len(unfinished))

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
        for method in ("needs", "run"):
            if not callable(getattr(model, method, None)):
                raise InvalidValue("model", model, f"an object with a method {method!r}")
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

        await self.commit(write)
        self._deploy(model, body)
        return {"status": "deployed", "model_id": model_id}

    def _deploy(self, model: Any, body: Mapping[str, Any]) -> None:
        known = self.models.get(body["model_id"])
        runner = Function.of(partial(run_model, model), name=f"{body['model_id']}.run")
        fields = {name: body[name] for name in ("demand", "priority", "objective_s", "batch_max", "max_age_s")}
        if known is not None:
            known.model, known.runner = model, runner
            for name, value in fields.items():
                setattr(known, name, value)
            return
        made = Deployment(body["model_id"], model, runner, **fields, waiting=Intake(step_s=body["objective_s"]))
        self.models[made.model_id] = made
        self.spawn(self._serve(made))

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
        now = self.clock.wall()
        rows, rejected, ids = [], [], []
        for index, fields in enumerate(requests):
            try:
                rows.append(self._row(fields, now))
                ids.append(rows[-1]["request_id"])
            except BalanceError as error:
                rejected.append({"index": index, **error.to_dict()})
        new = dict.fromkeys(await self.commit(lambda tx: tx.requests.accept(rows))) if rows else {}
        for row in rows:
            if row["request_id"] in new:
                request = Request(row["request_id"], row["payload"], now, row["priority"])
                self._enqueue(self.models[row["model_id"]], request)
        return {"accepted": len(new), "request_ids": ids, "rejected": rejected}

    def _row(self, fields: Any, now: float) -> dict[str, Any]:
        if not isinstance(fields, dict):
            raise InvalidValue("request", fields, "a dict with a model_id and the model's own fields")
        model = self._model(fields.get("model_id"))
        model.model.needs(fields)
        return {
            "request_id": check_id("request_id", fields.get("request_id") or f"request-{uuid.uuid4().hex}"),
            "model_id": model.model_id,
            "key": "",
            "priority": check_priority(fields.get("priority", model.priority)),
            "accepted_at": now,
            "payload": fields,
        }

    def _enqueue(self, model: Deployment, request: Request) -> None:
        model.accepted += 1
        self._arrived.append((request.accepted_at, model.model_id))
        model.waiting.add(self._merger.key_of(request.fields), request.priority, request.accepted_at, request)
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
        waiting = self._answers.setdefault(request_id, asyncio.get_running_loop().create_future())
        with self.store.reading() as tx:
            row = tx.requests.get(request_id)
        if row is None:
            self._answers.pop(request_id, None)
            raise UnknownId("request", request_id)
        if row["state"] == "accepted":
            try:
                return await asyncio.wait_for(asyncio.shield(waiting), timeout_s)
            except TimeoutError:
                return {"status": "pending", "request_id": request_id}
        self._answers.pop(request_id, None)
        return {"status": row["state"], "request_id": request_id, **(row["outcome"] or {})}

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
            if requests:
                asked = [{**each.fields, "priority": each.priority, "request_id": each.request_id} for each in requests]
                for batch in self.processor.plan(asked, model.priority, {model.model_id: Limits(model.batch_max)}):
                    model.running += 1
                    self.spawn(self._run_batch(model, batch, dict(enumerate(requests))))

    async def _let_in(self, model: Deployment) -> int:
        """Return how many distinct requests may go now; under a throttle, wait for the next one's turn.

        A token bucket one batch deep: requests equal to one that is let in ride along.
        """
        while model.admission_per_s is not None:
            now = self.clock.now()
            earned = (now - model.let_in_at) * model.admission_per_s
            model.let_in, model.let_in_at = min(float(model.batch_max), model.let_in + earned), now
            if model.let_in >= 1.0:
                granted = min(int(model.let_in), model.waiting.distinct)
                model.let_in -= granted
                return granted
            await asyncio.sleep(max(0.01, (1.0 - model.let_in) / max(model.admission_per_s, 0.1)))
        model.let_in_at = self.clock.now()
        return model.batch_max

    async def _run_batch(self, model: Deployment, batch: Batch, by_index: dict[int, Request]) -> None:
        requests = [[by_index[member.index] for member in group] for group in batch.members]
        try:
            results: list[Any] = await self._results(model, batch, requests)
            state = COMPLETED
        except Exception as error:
            self.log.warning("event=batch_failed model=%s batch=%s error=%r", model.model_id, batch.batch_id, error)
            dead = isinstance(error, SourceUnavailable)
            state = DEAD if dead else FAILED
            results = [error if isinstance(error, BalanceError) else BalanceError(str(error))] * len(requests)
        finally:
            model.running -= 1
            model.slot.set()
        await self._finish(model, batch, by_index, results, state)

    async def _results(self, model: Deployment, batch: Batch, requests: list[list[Request]]) -> list[Any]:
        needed = sorted({data_id for request in batch.requests for data_id in model.model.needs(request)})
        priority = model.boosted_to or batch.priority
        locations = await self.supply.hold(model.model_id, needed, model.max_age_s, priority)
        try:
            submitted_at = self.clock.wall()
            outcome = await ask(
                "scheduler",
                "run_call",
                f"batch:{model.model_id}:{uuid.uuid4().hex[:12]}",
                model.runner.call([dict(request) for request in batch.requests], locations),
                model.runner.blob,
                demand=model.demand,
                priority=priority,
                reservation=reservation_of(model.model_id),
                name=f"{model.model_id}[{len(batch.requests)}]",
                timeout_s=None,
            )
        finally:
            await self.supply.release(needed)
        if outcome["status"] != "completed":
            raise BalanceError(f"{outcome['status']}: {outcome.get('error') or outcome.get('reason')}")
        answer: Answer = outcome["answer"]
        waited = submitted_at + outcome["queued_s"]
        for group in requests:
            for request in group:
                self._start_latency.append((request.priority, max(0.0, waited - request.accepted_at)))
        model.batches += 1
        model.executed += len(batch.requests)
        model.run_s += answer.run_s
        model.recent_service_s.append(answer.run_s / max(1, batch.count))
        model.answered_in_batches += batch.count
        results: list[Any] = cloudpickle.loads(answer.value or b"")
        return results

    async def _finish(
        self, model: Deployment, batch: Batch, by_index: dict[int, Request], results: list[Any], state: str
    ) -> None:
        now = self.clock.wall()
        rows: list[dict[str, Any]] = []
        for outcome in self.processor.fan_out(batch, results):
            request = by_index[outcome.index]
            ended = COMPLETED if outcome.status == COMPLETED else (DEAD if state == DEAD else FAILED)
            rows.append(
                {
                    "request_id": request.request_id,
                    "state": ended,
                    "finished_at": now,
                    "outcome": {"result": outcome.result, "error": outcome.to_dict()["error"]},
                }
            )
        won = set(await self.commit(lambda tx: tx.requests.finish(rows)))
        for row in rows:
            if row["request_id"] in won and row["outcome"]["error"]:
                self._failures.append({"at": now, "where": model.model_id, **row["outcome"]["error"]})
            if row["request_id"] in won:
                setattr(model, row["state"], getattr(model, row["state"]) + 1)
            waiting = self._answers.pop(row["request_id"], None)
            if waiting is not None and not waiting.done():
                waiting.set_result({"status": row["state"], "request_id": row["request_id"], **row["outcome"]})

    # -- what the balancer sets, and what is measured -------------------------------------------------

    async def set_parallelism(self, model_id: str, parallelism: int) -> None:
        """Let so many batches of a model run at once."""
        model = self._model(model_id)
        model.parallelism = check_int("parallelism", parallelism, minimum=0)
        model.slot.set()

    async def set_priority(self, model_id: str, priority: int | None) -> None:
        """Run the model's batches at this priority; None for their own."""
        self._model(model_id).boosted_to = None if priority is None else check_priority(priority)

    async def set_intake(self, model_id: str, window_s: float, admission_per_s: float | None) -> None:
        """Set how long intake gathers, and how many requests a second it lets through (None: all)."""
        model = self._model(model_id)
        model.window_s = check_number("window_s", window_s, minimum=0)
        model.admission_per_s = admission_per_s

    async def prefetch(self, model_id: str, data_id: str) -> None:
        """Ask for a piece of data before a request needs it."""
        model = self._model(model_id)
        await self.supply.bring(model_id, data_id, model.max_age_s.get(data_id), model.priority)

    async def failures(self) -> list[dict[str, Any]]:
        """Return why the last requests failed: ``at`` (POSIX seconds), ``where`` (model), ``error``, ``message``."""
        return list(self._failures)

    async def stats_only(self) -> dict[str, Any]:
        """Return ``models``: per model what waits, runs and was done."""
        now = self.clock.wall()
        return {"models": {model.model_id: model.stats(now) for model in self.models.values()}}

    async def stats(self) -> dict[str, Any]:
        """Return `stats_only`, ``data``, and what came since the last call: ``arrived``, ``start_latency``."""
        arrived = [*self._arrived]
        self._arrived.clear()
        latencies = [*self._start_latency]
        self._start_latency.clear()
        return {
            **await self.stats_only(),
            "arrived": arrived,
            "start_latency": latencies,
            "data": self.supply.stats(),
        }
