"""What a client may say of a task beside its function and arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypedDict

from balance.client.wire import Kind
from balance.core.scheduler.retry import RetryPolicy
from balance.core.scheduler.spec import DEFAULT_TENANT, TaskSpec
from balance.errors import InvalidValue
from balance.types import Priority, Resources, check_number

if TYPE_CHECKING:
    from balance.client.futures import TaskFuture


class OptionChanges(TypedDict, total=False):
    """The names and types of `TaskOptions`, for type checkers."""

    priority: int
    cpu: float
    memory: float
    gpu: float
    resources: Mapping[str, float]
    tenant: str
    name: str | None
    task_id: str | None
    after: Sequence[TaskFuture[Any] | str]
    delay: float
    not_before: float | None
    deadline: float | None
    timeout_s: float | None
    retries: int | RetryPolicy
    idempotent: bool
    preemptible: bool
    gang_id: str | None
    gang_size: int
    reservation: str | None
    expected_run_s: float | None
    memory_limit_bytes: int | None


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How a task is to be run.

    Attributes
    ----------
    priority : int
        1 CRITICAL ... 5 BACKGROUND; the smaller number runs first.
    cpu, memory, gpu, resources
        What one running attempt holds: cores, bytes, devices, and Ray's custom resources by name.
    tenant : str
        Whose fair share it runs on.
    name : str or None
        What kind of work it is: tasks of one name share their measured run times.  The function's when left out.
    task_id : str or None
        For one task: its id, so that submitting it again is the same task.  Made up when left out.
    after : sequence of TaskFuture or str
        Tasks that have to be completed before.
    delay : float
        Seconds before it may run.
    not_before, deadline : float or None
        POSIX seconds.
    retries : int or RetryPolicy
        How often it may run again after it raised; a policy says that also of lost workers.
    timeout_s, idempotent, preemptible, gang_id, gang_size, reservation, expected_run_s, memory_limit_bytes
        As in `balance.core.scheduler.spec.TaskSpec`.

    Examples
    --------
    >>> TaskOptions().changed(priority=1, cpu=0.5, retries=2).to_kind("digest", "fit").options
    {'demand': {'cpu': 0.5, 'memory': 0, 'gpu': 0.0}, 'retry': {'errors': 2, ...}}
    >>> TaskOptions().changed(colour="blue")
    Traceback (most recent call last):
        ...
    balance.errors.InvalidValue: options is 'colour'; expected one of priority, cpu, memory, ...
    """

    priority: int = Priority.MEDIUM
    cpu: float = 1.0
    memory: float = 0.0
    gpu: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)
    tenant: str = DEFAULT_TENANT
    name: str | None = None
    task_id: str | None = None
    after: Sequence[TaskFuture[Any] | str] = ()
    delay: float = 0.0
    not_before: float | None = None
    deadline: float | None = None
    timeout_s: float | None = None
    retries: int | RetryPolicy = 0
    idempotent: bool = True
    preemptible: bool = False
    gang_id: str | None = None
    gang_size: int = 0
    reservation: str | None = None
    expected_run_s: float | None = None
    memory_limit_bytes: int | None = None

    def changed(self, **changes: Any) -> TaskOptions:
        """Return these options with some replaced; `InvalidValue` for a name that there is not."""
        unknown = next((name for name in changes if name not in _NAMES), None)
        if unknown is not None:
            raise InvalidValue("options", unknown, "one of " + ", ".join(_NAMES))
        return replace(self, **changes)

    def to_kind(self, function: str, function_name: str) -> Kind:
        """Return what tasks with these options and this function have in common.

        Raises
        ------
        InvalidValue
            A value is out of its range.
        """
        retry = self.retries if isinstance(self.retries, RetryPolicy) else RetryPolicy(errors=self.retries)
        spec = TaskSpec(
            "any",
            name=self.name or function_name,
            demand=Resources.demand(self.cpu, self.memory, self.gpu, self.resources),
            priority=self.priority,
            retry=retry,
            **{name: getattr(self, name) for name in _AS_IN_SPEC},
        )
        options = spec.to_dict()
        for name in _SAID_ELSEWHERE:
            options.pop(name, None)
        return Kind(
            function, spec.name, options, check_number("delay", self.delay, minimum=0, what="number of seconds")
        )


_NAMES = tuple(each.name for each in fields(TaskOptions))
_SAID_ELSEWHERE = ("task_id", "name", "priority")
_AS_IN_SPEC = tuple(each.name for each in fields(TaskSpec) if each.name in _NAMES and each.name not in _SAID_ELSEWHERE)
