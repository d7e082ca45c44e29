"""Submits the soak's tasks while the system under it is being killed, and collects what it is told of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from soak.effects import act
from soak.verdict import Outcome
from soak.workload import BULK_MAX, Item


class Submitter:
    """Keeps so many tasks submitted as it is told to, in a thread of its own.

    Parameters
    ----------
    client : balance.Client
        The client under test.
    items : sequence of Item
        All tasks, in order.
    folder : str
        Where tasks have their effects.
    """

    def __init__(self, client: Any, items: Sequence[Item], folder: str) -> None:
        self.items = items
        self.submitted = 0
        self._client = client
        self._folder = folder
        self._futures: dict[str, Any] = {}
        self._reports: dict[str, Any] = {}
        self._wanted = 0
        self._changed = threading.Condition()
        self._ended = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="submitter")
        self._all = self._thread.submit(self._submit_all)

    def want(self, count: int) -> None:
        """Have the first `count` tasks submitted."""
        with self._changed:
            self._wanted = count
            self._changed.notify()

    def end(self) -> None:
        """Submit nothing more, and end the thread."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.shutdown()

    def _submit_all(self) -> None:
        while self.submitted < len(self.items):
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._wanted > self.submitted)
                if self._ended:
                    return
                stop = min(self._wanted, self.submitted + BULK_MAX)
            self._submit(self.items[self.submitted : stop])
            self.submitted = stop

    def _submit(self, some: Sequence[Item]) -> None:
        """Submit a few: `submit_many` returns when they are durable, whatever dies meanwhile."""
        for kind, idempotent in (("many", True), ("once", False)):
            chosen = [item for item in some if item.kind == kind]
            if chosen:
                futures = self._client.options(idempotent=idempotent, name=kind).submit_many(
                    [(act, (self._folder, item.task_id, item.run_s), {}) for item in chosen],
                    ids=[item.task_id for item in chosen],
                    priorities=[item.priority for item in chosen],
                )
                self._futures.update(zip([item.task_id for item in chosen], futures, strict=True))
        for item in some:
            if item.kind == "coordinator":
                self._reports[item.task_id] = self._execute(item)

    def _execute(self, item: Item) -> Any:
        import ray

        coordinator = ray.get_actor("operation_coordinator", namespace="balance")
        task = partial(act, self._folder, item.task_id, item.run_s)
        return coordinator.execute_task.remote(item.task_id, task, 0.5, 0, item.priority)

    def outcomes(self, timeout_s: float) -> dict[str, Outcome]:
        """Wait until all are submitted and over, at most so many seconds, and return what was told of each."""
        self._all.result(timeout_s)
        self._client.wait(list(self._futures.values()), timeout=timeout_s)
        found = {task_id: _of_future(future) for task_id, future in self._futures.items()}
        return found | {task_id: _of_report(report, timeout_s) for task_id, report in self._reports.items()}


def _of_future(future: Any) -> Outcome:
    if not future.done():
        return Outcome("none")
    error = future.exception()
    if error is None:
        return Outcome("completed", future.result())
    said = f"{type(error).__name__}: {error}".splitlines()[0]
    return Outcome("failed", reason=said.replace(future.id, "ID"))


def _of_report(report: Any, timeout_s: float) -> Outcome:
    import ray

    try:
        told = ray.get(report, timeout=timeout_s)
    except ray.exceptions.GetTimeoutError:
        return Outcome("none")
    except Exception as error:  # noqa: BLE001 (whatever it is, the submitter was told nothing)
        return Outcome("none", reason=f"{type(error).__name__}: {error}".splitlines()[-1])
    return Outcome(told["status"], told["result"], told["reason"])
