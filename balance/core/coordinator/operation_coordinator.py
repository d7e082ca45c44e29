"""Running one task for a client: check it, queue it, run it, say how it went.

In a plain process the task runs in this one; the actor of the same name runs it on the cluster.  Both
check the same way and answer with the same dict, which `Operation` and `TaskReport` hold.
"""

from __future__ import annotations

from collections.abc import Callable as Function
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Dict

from balance.clock import iso
from balance.errors import Conflict, InvalidValue
from balance.types import Resources, check_id, check_priority

if TYPE_CHECKING:
    from balance.core.scheduler import TaskScheduler


@dataclass(frozen=True, slots=True)
class Operation:
    """A task that has been checked.

    Attributes
    ----------
    task_id : str
        Its id.
    demand : Resources
        What it needs.
    priority : int
        1 CRITICAL ... 5 BACKGROUND.
    """

    task_id: str
    demand: Resources
    priority: int

    @classmethod
    def of(
        cls, task_id: str, task_func: Function[..., Any], cpu_demand: float, memory_demand: float, priority: int
    ) -> Operation:
        """Check what a client asks for; `InvalidValue` names what can't be."""
        check_id("task_id", task_id)
        if not callable(task_func):
            raise InvalidValue("task_func", task_func, "a callable")
        return cls(task_id, Resources.demand(cpu_demand, memory_demand), check_priority(priority))


@dataclass(frozen=True, slots=True)
class TaskReport:
    """How a task stands, for its client.

    Attributes
    ----------
    task_id : str
        Its id.
    status : str
        Before its end ``waiting | delayed | queued | running | retrying``; at its end ``completed | failed |
        denied | cancelled | timed_out | upstream_failed``.
    result : object
        What the task returned; None unless it completed.
    error : dict or None
        What went wrong: ``kind``, ``type``, ``message``, ``traceback``; for a denied task ``reason``,
        ``resource``, ``lacking``, ``largest_possible``.
    reason : str
        Why it ended as it did, in a sentence.
    priority : int
        As it is now.
    attempt : int
        How often it was started.
    node : str or None
        Where it ran last.
    submitted_at : str
        ISO 8601.
    queued_s, run_s : float or None
        Seconds that it waited, and that its last attempt ran.
    output : str
        What it printed.
    """

    task_id: str
    status: str
    result: Any
    error: Dict[str, Any] | None
    reason: str
    priority: int
    attempt: int
    node: str | None
    submitted_at: str
    queued_s: float
    run_s: float | None
    output: str = ""

    @classmethod
    def of(cls, status: Mapping[str, Any], result: Any = None, output: str = "") -> TaskReport:
        """Read a report off the scheduler's status of a task."""
        return cls(
            task_id=status["task_id"],
            status=str(status["status"]),
            result=result,
            error=status["error"],
            reason=status["reason"],
            priority=status["priority"],
            attempt=status["attempt"],
            node=status["node_id"],
            submitted_at=iso(status["submitted_at"]),
            queued_s=status["queued_s"],
            run_s=status["run_s"],
            output=output,
        )

    def to_dict(self) -> Dict[str, Any]:
        """Return every attribute under its name; all JSON values but ``result``, which is the task's own."""
        return asdict(self) | {"result": self.result}


class OperationCoordinator:
    """Run tasks and answer for them.

    Parameters
    ----------
    scheduler : TaskScheduler, optional
        Who queues and runs; one in this process when left out.

    Examples
    --------
    >>> operations = OperationCoordinator()
    >>> outcome = operations.execute_task("sum", lambda: 2 + 3, cpu_demand=1, memory_demand=0)
    >>> outcome["status"], outcome["result"]
    ('completed', 5)
    >>> operations.get_task_status("sum")["status"]
    'completed'
    """

    def __init__(self, *, scheduler: TaskScheduler | None = None) -> None:
        self._scheduler = scheduler
        self._functions: dict[str, Function[..., Any]] = {}

    @property
    def scheduler(self) -> TaskScheduler:
        """The scheduler that is used."""
        if self._scheduler is None:
            from balance.core.scheduler import TaskScheduler  # noqa: PLC0415 (built when first needed)

            self._scheduler = TaskScheduler()
        return self._scheduler

    def execute_task(
        self,
        task_id: str,
        task_func: callable,  # type: ignore[valid-type]  # (the contract's annotation)
        cpu_demand: float,
        memory_demand: float,
        priority: int = 1,
    ) -> Dict[str, Any]:
        """Run ``task_func()`` when its turn comes and return how it went.

        Parameters
        ----------
        task_id : str
            Names the task; the same id with the same function again is the same task, and gets its outcome.
        task_func : callable
            Takes no arguments.
        cpu_demand : float
            Cores.
        memory_demand : float
            Bytes.
        priority : int, default 1
            1 CRITICAL ... 5 BACKGROUND.

        Returns
        -------
        dict
            The keys of `TaskReport`.  A demand that the cluster could never meet is ``denied`` at once;
            one that it can't meet now waits.

        Raises
        ------
        InvalidValue
            An empty id, no callable, a negative or NaN demand, a priority below 1.
        Conflict
            The id stands for another function already.
        """
        operation = Operation.of(task_id, task_func, cpu_demand, memory_demand, priority)
        known = self._functions.get(task_id)
        if known is None:
            self.scheduler.submit(
                task_func,
                task_id=operation.task_id,
                demand=operation.demand,
                priority=operation.priority,
            )
            self._functions[task_id] = task_func
        elif known is not task_func:
            raise Conflict(f"task {task_id!r} exists already and runs another function", task_id=task_id)
        if not self.scheduler.outcome(task_id).done:
            self.scheduler.run_scheduler()
        return self.get_task_status(task_id)

    def get_task_status(self, task_id: str) -> Dict[str, Any]:
        """Return how a task stands, at any moment of its life and after it.

        Returns
        -------
        dict
            The keys of `TaskReport`.

        Raises
        ------
        UnknownId
            No such task.
        """
        outcome = self.scheduler.outcome(check_id("task_id", task_id))
        status = outcome.to_dict()
        return TaskReport.of(status, status.pop("result")).to_dict()
