"""The actor that clients call to run a task: it checks, packs the function, and waits for the scheduler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, cast

from ray import cloudpickle

from actors.base import Shell, ask
from balance.client.wire import Answer, Function
from balance.core.coordinator.operation_coordinator import Operation, TaskReport
from balance.errors import InvalidValue
from balance.types import check_id


class OperationCoordinatorActor(Shell):
    """Runs tasks of clients on the cluster."""

    role: ClassVar[str] = "operation_coordinator"

    async def execute_task(
        self,
        task_id: str,
        task_func: Callable[..., Any],
        cpu_demand: float,
        memory_demand: float,
        priority: int = 1,
    ) -> dict[str, Any]:
        """As `OperationCoordinator.execute_task`; many may wait at once."""
        await self._submit(task_id, task_func, cpu_demand, memory_demand, priority)
        return _report(await ask("scheduler", "wait", task_id, patience_s=None))

    async def submit_task(
        self,
        task_id: str,
        task_func: Callable[..., Any],
        cpu_demand: float,
        memory_demand: float,
        priority: int = 1,
        **options: Any,
    ) -> dict[str, Any]:
        """Queue a task and return at once; ``options`` are those of `balance.core.scheduler.spec.TaskSpec`.

        Returns
        -------
        dict
            ``status`` (``accepted``, or ``known`` where the id was accepted before), ``task_id``.
        """
        return await self._submit(task_id, task_func, cpu_demand, memory_demand, priority, **options)

    async def _submit(
        self, task_id: str, task_func: Any, cpu_demand: float, memory_demand: float, priority: int, **options: Any
    ) -> dict[str, Any]:
        operation = Operation.of(task_id, task_func, cpu_demand, memory_demand, priority)
        try:
            function = Function.of(settled(task_func))
        except Exception as error:
            raise InvalidValue("task_func", task_func, f"a function that can be pickled ({error})") from None
        answer: dict[str, Any] = await ask(
            "scheduler",
            "submit_call",
            operation.task_id,
            function.call(),
            function.blob,
            demand=operation.demand.to_dict(),
            priority=operation.priority,
            **options,
        )
        return answer

    async def get_task_status(self, task_id: str) -> dict[str, Any]:
        """As `OperationCoordinator.get_task_status`."""
        return _report(await ask("scheduler", "outcome", check_id("task_id", task_id)))

    async def cancel_task(self, task_id: str) -> bool:
        """Cancel a task, queued or running; say whether it was not over already."""
        return bool(await ask("scheduler", "cancel", check_id("task_id", task_id)))


def settled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that came by pickle as one whose pickle is the same each time it comes.

    A function that travels by value has its names interned by the process that builds it.  The first time, they
    are one with its other strings, as its sender had them; the next time, equal strings only, which are pickled
    apart: the same call, made again by Ray after this actor died, would be another one.  Once all names are
    interned, every copy is like the next.
    """
    return cast(Callable[..., Any], cloudpickle.loads(cloudpickle.dumps(function)))


def _report(outcome: dict[str, Any]) -> dict[str, Any]:
    answer: Answer | None = outcome["answer"]
    if answer is None:
        return TaskReport.of(outcome).to_dict()
    result = None if answer.value is None else cloudpickle.loads(answer.value)
    return TaskReport.of(outcome, result, answer.output).to_dict()
