"""What a task is, as its submitter describes it.

A `TaskSpec` never changes after it was submitted, apart from its priority, which the engine keeps
beside it.  All moments are POSIX seconds: a scheduler that is restarted, on another host perhaps, reads
them unchanged (a monotonic reading would mean nothing there).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from balance.core.scheduler.retry import RetryPolicy
from balance.errors import DependencyCycle, InvalidValue
from balance.types import Priority, Resources, check_id, check_int, check_number, check_priority

ONE_CPU = Resources(cpu_milli=1000)
DEFAULT_TENANT = "default"
DEFAULT_RETRY = RetryPolicy()


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task: what it needs, how urgent it is, and what may be done with it.

    Attributes
    ----------
    task_id : str
        Unique among the tasks that the scheduler knows.
    name : str
        What kind of work it is; tasks of one name share their measured run times and memory peaks.
    demand : Resources
        What one running attempt holds.  One CPU unless told otherwise, as in Ray.
    priority : int
        1 CRITICAL ... 5 BACKGROUND; the smaller number runs first within a tenant.
    tenant : str
        Whose fair share it runs on.
    not_before, deadline : float or None
        POSIX seconds.  A task that is not done at its deadline is stopped and ``timed_out``.
    dependencies : tuple of str
        Ids of the tasks that have to be completed first.
    retry : RetryPolicy
        How often it may run again after an error, a lost worker, a kill for memory.
    timeout_s : float or None
        The longest that one attempt may run, in seconds.
    gang_id, gang_size
        Tasks of one gang start together, once `gang_size` of them are ready and all fit; or not at all.
    preemptible : bool
        Whether it may be stopped, and run again later, in favour of a more urgent task; only if idempotent.
    idempotent : bool
        Whether running it twice does no harm.  One that is not idempotent is failed, not run again,
        when its worker was lost half-way.
    reservation : str or None
        A named reservation that it draws on first; the general capacity after that.
    expected_run_s : float or None
        The submitter's guess at the run time, in seconds; what was measured replaces it for later
        tasks of the same name that give none.
    memory_limit_bytes : int or None
        How far a request may grow after kills for memory; None for what the largest node has.

    Examples
    --------
    >>> spec = TaskSpec("fit-1", name="fit", demand=Resources.demand(cpu=2, gpu=0.5), priority=2)
    >>> TaskSpec.from_dict(spec.to_dict()) == spec
    True
    >>> TaskSpec("fit-2", dependencies=("fit-2",))
    Traceback (most recent call last):
        ...
    balance.errors.DependencyCycle: the dependencies form a cycle: fit-2 -> fit-2
    """

    task_id: str
    name: str = "task"
    demand: Resources = ONE_CPU
    priority: int = Priority.MEDIUM
    tenant: str = DEFAULT_TENANT
    not_before: float | None = None
    deadline: float | None = None
    dependencies: tuple[str, ...] = ()
    retry: RetryPolicy = DEFAULT_RETRY
    timeout_s: float | None = None
    gang_id: str | None = None
    gang_size: int = 0
    preemptible: bool = False
    idempotent: bool = True
    reservation: str | None = None
    expected_run_s: float | None = None
    memory_limit_bytes: int | None = None

    def __post_init__(self) -> None:
        check_id("task_id", self.task_id)
        check_id("name", self.name)
        check_id("tenant", self.tenant)
        check_priority(self.priority)
        if not isinstance(self.demand, Resources):
            raise InvalidValue("demand", self.demand, "balance.types.Resources, as Resources.demand(cpu=1) makes it")
        if self.dependencies:
            self._check_dependencies()
        self._check_times()
        if self.gang_id is not None or self.gang_size:
            check_id("gang_id", self.gang_id)
            check_int("gang_size", self.gang_size, minimum=1)
        if self.preemptible and not self.idempotent:
            raise InvalidValue("preemptible", True, "False for a task that is not idempotent: preempted, it runs twice")
        if self.reservation is not None:
            check_id("reservation", self.reservation)
        if self.memory_limit_bytes is not None:
            check_int("memory_limit_bytes", self.memory_limit_bytes, minimum=1)

    def _check_dependencies(self) -> None:
        given: object = self.dependencies
        if isinstance(given, str):
            raise InvalidValue("dependencies", given, "a sequence of task ids, not one string")
        for dependency in self.dependencies:
            check_id("dependency", dependency)
        if self.task_id in self.dependencies:
            raise DependencyCycle([self.task_id, self.task_id])
        object.__setattr__(self, "dependencies", tuple(dict.fromkeys(self.dependencies)))

    def _check_times(self) -> None:
        if self.not_before is not None:
            check_number("not_before", self.not_before, what="moment in POSIX seconds")
        if self.deadline is not None:
            check_number("deadline", self.deadline, what="moment in POSIX seconds")
        if self.timeout_s is not None and check_number("timeout_s", self.timeout_s, minimum=0) == 0:
            raise InvalidValue("timeout_s", self.timeout_s, "more than 0 seconds, or None for no timeout")
        if self.expected_run_s is not None:
            check_number("expected_run_s", self.expected_run_s, minimum=0)

    @classmethod
    def many(
        cls, template: TaskSpec, task_ids: Sequence[str], priorities: Sequence[int] | None = None
    ) -> list[TaskSpec]:
        """Return one spec for each id, alike in everything else; what they share is checked once, not each time.

        A microsecond or two each, less than half of what the constructor takes.

        Parameters
        ----------
        template : TaskSpec
            What they share; its id is not used.
        task_ids : sequence of str
            An id for each.
        priorities : sequence of int, optional
            A priority for each; the template's when left out.

        Raises
        ------
        InvalidValue, DependencyCycle
            As the constructor; or if there are not as many priorities as ids.

        Examples
        --------
        >>> [(spec.task_id, spec.priority, spec.name) for spec in TaskSpec.many(TaskSpec("any", "fit"), "ab", [1, 5])]
        [('a', 1, 'fit'), ('b', 5, 'fit')]
        """
        given = [template.priority] * len(task_ids) if priorities is None else priorities
        if len(given) != len(task_ids):
            raise InvalidValue("priorities", len(given), f"as many as there are ids, {len(task_ids)}")
        for priority in priorities or ():
            check_priority(priority)
        if template.dependencies and (own := next((each for each in task_ids if each in template.dependencies), None)):
            raise DependencyCycle([own, own])
        shared = [(put, getattr(template, name)) for name, put in _PUT.items() if name not in ("task_id", "priority")]
        put_id, put_priority, new = _PUT["task_id"], _PUT["priority"], cls.__new__
        made = []
        for task_id, priority in zip(task_ids, given, strict=True):
            if type(task_id) is not str or not 0 < len(task_id) <= 512 or task_id.isspace():
                check_id("task_id", task_id)
            spec = new(cls)
            put_id(spec, task_id)
            put_priority(spec, priority)
            for put, value in shared:
                put(spec, value)
            made.append(spec)
        return made

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults as JSON values; ``task_id`` always.

        ``demand`` and ``retry`` are dicts, ``dependencies`` is a list; units are those of the attributes.
        """
        out: dict[str, Any] = {"task_id": self.task_id}
        for field in _OPTIONAL:
            value = getattr(self, field.name)
            if value != field.default:
                out[field.name] = value
        for name in ("demand", "retry"):
            if name in out:
                out[name] = out[name].to_dict()
        if "dependencies" in out:
            out["dependencies"] = list(self.dependencies)
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TaskSpec:
        """Read back what `to_dict` returned."""
        given = dict(data)
        if "demand" in given:
            given["demand"] = Resources.from_dict(given["demand"])
        if "retry" in given:
            given["retry"] = RetryPolicy(**given["retry"])
        if "dependencies" in given:
            given["dependencies"] = tuple(given["dependencies"])
        return cls(**given)


# A slot's own setter: past the check that the record is frozen, as its constructor does it.
_PUT: dict[str, Callable[[TaskSpec, Any], None]] = {
    field.name: TaskSpec.__dict__[field.name].__set__ for field in fields(TaskSpec)
}
_OPTIONAL = tuple(field for field in fields(TaskSpec) if field.name != "task_id")
