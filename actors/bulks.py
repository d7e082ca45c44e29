"""What is in a bulk: its tasks' specs, and whether it has to enter the engine in one piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from balance.client.wire import Bulk, Call, Kind
from balance.core.scheduler.spec import TaskSpec
from balance.errors import BalanceError, InvalidValue

_ANY = "any"
_FIELDS = frozenset(field.name for field in fields(TaskSpec))


def bulk_specs(bulk: Bulk, now: float) -> list[TaskSpec]:
    """Return the spec of each task, in order.

    Parameters
    ----------
    bulk : Bulk
        As it came from a client.
    now : float
        POSIX seconds, from which delays count.

    Raises
    ------
    InvalidValue, DependencyCycle
        As `TaskSpec`; or the lists of the bulk differ in length.

    Examples
    --------
    >>> bulk = Bulk(["a", "b"], [b"", b""], [Kind("", "fit", {"tenant": "lab"})], None, [1, 2], {1: ("a",)})
    >>> [(spec.task_id, spec.priority, spec.tenant, spec.dependencies) for spec in bulk_specs(bulk, 0.0)]
    [('a', 1, 'lab', ()), ('b', 2, 'lab', ('a',))]
    """
    number = len(bulk.ids)
    _check_lengths(bulk, number)
    templates = [task_spec(_ANY, _options(kind, now)) for kind in bulk.kinds]
    if not isinstance(bulk.priorities, list):
        templates = [replace(template, priority=bulk.priorities) for template in templates]
    specs = _made(bulk, templates)
    for index, names in bulk.dependencies.items():
        specs[index] = replace(specs[index], dependencies=(*names, *specs[index].dependencies))
    return specs


def _made(bulk: Bulk, templates: Sequence[TaskSpec]) -> list[TaskSpec]:
    priorities = bulk.priorities if isinstance(bulk.priorities, list) else None
    if bulk.kind_of is None:
        return TaskSpec.many(templates[0], bulk.ids, priorities) if bulk.ids else []
    places: list[list[int]] = [[] for _ in templates]
    for index, kind in enumerate(bulk.kind_of):
        places[kind].append(index)
    specs: list[TaskSpec] = [templates[0]] * len(bulk.ids)
    for template, of_this_kind in zip(templates, places, strict=True):
        ids = [bulk.ids[index] for index in of_this_kind]
        some = [priorities[index] for index in of_this_kind] if priorities is not None else None
        for index, spec in zip(of_this_kind, TaskSpec.many(template, ids, some), strict=True):
            specs[index] = spec
    return specs


def _check_lengths(bulk: Bulk, number: int) -> None:
    lists: dict[str, Sequence[Any] | None] = {"arguments": bulk.arguments, "kind_of": bulk.kind_of}
    if isinstance(bulk.priorities, list):
        lists["priorities"] = bulk.priorities
    for name, values in lists.items():
        if values is not None and len(values) != number:
            raise InvalidValue(name, f"a list of {len(values)}", f"one for each of the {number} tasks")
    if bulk.kind_of is None and number and len(bulk.kinds) != 1:
        raise InvalidValue("kinds", len(bulk.kinds), "one, unless kind_of says which task has which")
    if bulk.kind_of and not all(0 <= kind < len(bulk.kinds) for kind in bulk.kind_of):
        raise InvalidValue("kind_of", max(bulk.kind_of, key=abs), f"the index of one of {len(bulk.kinds)} kinds")
    if not all(0 <= index < number for index in bulk.dependencies):
        raise InvalidValue("dependencies", sorted(bulk.dependencies)[-1], f"positions of the {number} tasks")


def _options(kind: Kind, now: float) -> dict[str, Any]:
    options = {"name": kind.name, **kind.options}
    if kind.delay_s:
        options["not_before"] = max(now + kind.delay_s, options.get("not_before") or 0.0)
    return options


def task_spec(task_id: str, options: Mapping[str, Any]) -> TaskSpec:
    """Return the spec of a task whose options came as JSON values from a client."""
    unknown = sorted(options.keys() - _FIELDS)
    if unknown:
        raise InvalidValue("options", unknown, "names of attributes of balance.core.scheduler.spec.TaskSpec")
    try:
        return TaskSpec.from_dict({"task_id": task_id, **options})
    except BalanceError:
        raise
    except TypeError as error:
        raise InvalidValue("options", dict(options), f"values that a task can have ({error})") from None


def needs_one_slice(tasks: Sequence[tuple[TaskSpec, Call]]) -> bool:
    """Say whether tasks can't enter the engine one after another: gangs, and prerequisites that come later."""
    before: set[str] = set()
    coming: set[str] | None = None
    for spec, _call in tasks:
        if spec.gang_id is not None:
            return True
        if spec.dependencies:
            coming = {other.task_id for other, _ in tasks} if coming is None else coming
            if any(name in coming and name not in before for name in spec.dependencies):
                return True
        before.add(spec.task_id)
    return False
