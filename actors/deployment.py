"""One deployed model at the batches actor: its code, what waits for it, and how it has been doing."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from balance.batch.processor.intake import Intake
from balance.client.wire import Function
from balance.errors import BalanceError, InvalidValue


class Runner:
    """A model as executors know it: loaded once in each of their processes, then called with one batch after another.

    Parameters
    ----------
    model : object
        With ``run(requests, data)`` and, where something takes long before the first answer, ``load()``.

    Examples
    --------
    >>> class Echo:
    ...     def load(self):
    ...         print("loaded")
    ...
    ...     def run(self, requests, data):
    ...         return list(requests)
    >>> runner = Runner(Echo())
    >>> runner.prepare()
    loaded
    >>> runner([{"text": "a"}], {})
    ([{'text': 'a'}], 0.0)
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._loaded = False

    def prepare(self) -> None:
        """Let the model load; what was loaded already stays."""
        if not self._loaded:
            load = getattr(self._model, "load", None)
            if callable(load):
                load()
            self._loaded = True

    def __call__(self, requests: Sequence[Mapping[str, Any]], locations: Mapping[str, str]) -> tuple[list[Any], float]:
        """Run one batch: read the data at its locations, answer every request.

        Returns
        -------
        tuple of (list, float)
            The results, and how many seconds of the run it took to load the model, which the next run will not take.
        """
        from actors.shelf import read  # noqa: PLC0415 (runs in the executor's process)

        load_s = 0.0
        if not self._loaded:
            began = time.perf_counter()
            self.prepare()
            load_s = time.perf_counter() - began
        results: list[Any] = self._model.run(requests, {at: read(where) for at, where in sorted(locations.items())})
        return results, load_s


@dataclass(slots=True, eq=False)
class Request:
    """A request that was accepted and has no outcome yet."""

    request_id: str
    fields: dict[str, Any]
    accepted_at: float
    priority: int


def _written(value: object, name: str) -> bytes:
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(name, value, f"JSON values ({error})") from None


def shown(error: Exception) -> BalanceError:
    """Return an error that can be written down for the requester."""
    return error if isinstance(error, BalanceError) else BalanceError(f"{type(error).__name__}: {error}")


def end_of(request_id: str, state: str, outcome: dict[str, Any], at: float) -> dict[str, Any]:
    """Return how a request ended, as the store takes it; a result that can't be written down is a failure.

    Examples
    --------
    >>> end = end_of("r-1", "completed", {"result": {1, 2}, "error": None}, at=0.0)
    >>> end["state"], end["outcome"]["error"]["message"]
    ('failed', 'result is {1, 2}; expected JSON values (Object of type set is not JSON serializable)')
    """
    try:
        _written(outcome, "outcome")
    except InvalidValue:
        state = "failed"
        try:
            _written(outcome["result"], "result")
            error = BalanceError("it failed, and what it said can't be written down")
        except InvalidValue as reason:
            error = reason
        outcome = {"result": None, "error": error.to_dict()}
    return {"request_id": request_id, "state": state, "finished_at": at, "outcome": outcome}


@dataclass(slots=True, eq=False)
class Deployment:
    """One deployed model: its code, what waits for it, and how it has been doing."""

    model_id: str
    model: Any
    runner: Function
    demand: dict[str, Any]
    priority: int
    objective_s: float
    batch_max: int
    max_age_s: dict[str, float]
    window_s: float = 0.02
    parallelism: int = 1
    boosted_to: int | None = None
    admission_per_s: float | None = None
    waiting: Intake[Request] = field(default_factory=Intake)
    let_in: float = 1.0
    let_in_at: float = 0.0
    running: int = 0
    accepted: int = 0
    completed: int = 0
    failed: int = 0
    dead_lettered: int = 0
    executed: int = 0
    batches: int = 0
    run_s: float = 0.0
    answered_in_batches: int = 0
    recent_service_s: deque[float] = field(default_factory=lambda: deque(maxlen=200))
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    slot: asyncio.Event = field(default_factory=asyncio.Event)
    serving: asyncio.Task[Any] | None = None

    def checked(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return a request as it will be read from the store after a restart.

        Raises
        ------
        InvalidValue
            It is not made of JSON values, or not what the model takes.
        """
        fields: dict[str, Any] = json.loads(_written(given, "request"))
        try:
            self.model.needs(fields)
        except BalanceError:
            raise
        except (Exception, SystemExit) as error:
            takes = f"what model {self.model_id!r} takes ({type(error).__name__}: {error})"
            raise InvalidValue("request", given, takes) from None
        return fields

    def admit(self, now: float) -> int | None:
        """Return how many distinct requests may go at `now`; None if the throttle lets nobody through yet.

        A token bucket one batch deep: requests equal to one that is let in ride along.
        """
        if self.admission_per_s is None:
            self.let_in_at = now
            return self.batch_max
        earned = (now - self.let_in_at) * self.admission_per_s
        self.let_in, self.let_in_at = min(float(self.batch_max), self.let_in + earned), now
        if self.let_in < 1.0:
            return None
        granted = min(int(self.let_in), self.waiting.distinct)
        self.let_in -= granted
        return granted

    def admission_wait_s(self) -> float:
        """Return after how many seconds to `admit` again; never so long that a new limit goes unnoticed."""
        return min(1.0, max(0.01, (1.0 - self.let_in) / max(self.admission_per_s or 0.0, 0.1)))

    def stats(self, now: float) -> dict[str, Any]:
        """Return what waits, runs and was done, what the balancer has set, and what was measured."""
        service = sorted(self.recent_service_s)
        oldest = self.waiting.oldest_at()
        return {
            "priority": self.priority,
            "demand": self.demand,
            "objective_s": self.objective_s,
            "queued": len(self.waiting),
            "queued_by_priority": self.waiting.by_priority(),
            "oldest_wait_s": 0.0 if oldest is None else now - oldest,
            "running": self.running,
            "parallelism": self.parallelism,
            "boosted_to": self.boosted_to,
            "window_s": self.window_s,
            "admission_per_s": self.admission_per_s,
            "accepted": self.accepted,
            "completed": self.completed,
            "failed": self.failed,
            "dead_lettered": self.dead_lettered,
            "executed": self.executed,
            "batches": self.batches,
            "service_s": sum(service) / len(service) if service else None,
            "service_p90_s": service[int(0.9 * (len(service) - 1))] if service else None,
            "batch_size": self.answered_in_batches / self.batches if self.batches else 1.0,
        }
