"""Between a task in the engine and its rows in the store: what is written of each change, and how it is read back.

What hardly any task has (failures, a story, a changed priority) goes into one JSON text, left out where there
is none of it; and a spec's JSON is made once for all tasks that differ in nothing but their id.  So a
submission costs two short rows, and an end one.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import lru_cache
from operator import attrgetter
from typing import Any

from balance.client.wire import Answer, Call
from balance.core.scheduler.spec import TaskSpec
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task, TaskImage
from balance.storage.tasks import End, Finished, New, Open, Unfinished

log = logging.getLogger("balance.task_journal")

_STATES = {str(state): state for state in State}

SPECS_KEPT = 4096
"""For how many different specs, ids apart, the JSON is kept."""

_SPEC_FIELDS = tuple(field.name for field in fields(TaskSpec) if field.name != "task_id")
_spec_key = attrgetter(*_SPEC_FIELDS)

# What may happen to a task beside its columns; all of it as in a new one in nearly every task.
_EXTRAS = ("due_at", "errors", "losses", "memory_kills", "refusals", "preemptions", "stop_reason", "solo", "error",
           "reason", "story", "hold")  # fmt: skip
_extras = attrgetter(*_EXTRAS)
_NONE = (None, 0, 0, 0, 0, 0, None, False, None, "", None, None)
# In ASCII, so that text which no database takes (a lone surrogate in a message) is escaped; and it never raises.
_as_json = json.JSONEncoder(separators=(",", ":"), default=repr).encode


class Rows:
    """What is to be written, in the order of the tables.

    Attributes
    ----------
    new, ended : list of tuple
        Rows of `TaskRecords.add` and `end`.
    opened : dict of int to tuple
        Rows of `TaskRecords.set_open` by their number: the last one counts.
    """

    __slots__ = ("ended", "new", "opened")

    def __init__(self) -> None:
        self.new: list[New] = []
        self.opened: dict[int, Open] = {}
        self.ended: list[End] = []

    def take(self, changes: Sequence[Task], highest: int) -> int:
        """Read what is to be written of `changes`; those with a ``seq`` above `highest` are new.

        Returns
        -------
        int
            The highest ``seq`` now.
        """
        known = highest
        new, opened, ended = self.new.append, self.opened, self.ended.append
        for task in changes:
            spec, seq, state = task.spec, task.seq, task.state
            if seq > known:
                call = task.call
                function, arguments = (call.function, call.arguments) if isinstance(call, Call) else (None, None)
                new((seq, spec.task_id, _spec_json(*_spec_key(spec)), task.submitted_at, function, arguments))
                highest = max(highest, seq)
            plain = task.priority == spec.priority and _extras(task) == _NONE
            if task.finished_at is not None:
                ended(_end(task, None if plain else _progress(task)))
            elif plain and not task.attempt:
                opened[seq] = (seq, str(state), task.eligible_at, None)
            else:
                opened[seq] = (seq, str(state), task.eligible_at, _progress(task))
        return highest

    def write(self, tx: Any) -> None:
        """Write everything, in three steps."""
        tx.tasks.add(self.new)
        tx.tasks.set_open(list(self.opened.values()))
        tx.tasks.end(self.ended)

    def write_apart(self, tx: Any) -> None:
        """Write everything that can be written, though some of it may be there already; log what can't."""
        refused = tx.write_apart(tx.tasks.add, self.new)
        refused += tx.write_apart(tx.tasks.set_open, list(self.opened.values()))
        refused += tx.write_apart(tx.tasks.end, self.ended)
        for row, error in refused:
            log.error("event=task_not_written row=%r error=%r", row, error)


def _end(task: Task, progress: str | None) -> End:
    answer = task.result
    value = output = run_s = None
    if isinstance(answer, Answer):
        value, output, run_s = answer.value, answer.output or None, answer.run_s
    assert task.finished_at is not None, "only what is over has an end"
    return (
        task.seq, str(task.state), task.attempt, task.eligible_at, task.started_at, task.finished_at, task.node_id,
        run_s, progress, output, value,
    )  # fmt: skip


@lru_cache(maxsize=SPECS_KEPT)
def _spec_json(*values: Any) -> str:
    given = dict(zip(_SPEC_FIELDS, values, strict=True))
    dependencies = given.pop("dependencies")
    out = TaskSpec("any", **given).to_dict()
    del out["task_id"]
    return _as_json(out | {"dependencies": dependencies} if dependencies else out)


def _progress(task: Task) -> str:
    """Return what is not in columns, as far as it is not as in a new task."""
    progress = {name: value for name, value, none in zip(_EXTRAS, _extras(task), _NONE, strict=True) if value != none}
    hold = progress.pop("hold", None)
    if hold is not None:
        progress["devices"], progress["pool"] = hold.devices, hold.room.pool
    if task.priority != task.spec.priority:
        progress["priority"] = task.priority
    if task.memory_kills:
        progress["demand"] = task.shape.demand.to_dict()
    if task.story is not None:
        progress["noted"] = task.noted
    if task.finished_at is None:
        for name in ("started_at", "attempt", "node_id"):
            if getattr(task, name):
                progress[name] = getattr(task, name)
    return _as_json(progress)


def images_of(rows: Sequence[Unfinished | Finished], answers: Mapping[str, Answer] | None = None) -> list[TaskImage]:
    """Read tasks back; of those that are over, those in `answers` have a result."""
    alike: defaultdict[str, list[Unfinished | Finished]] = defaultdict(list)
    for row in rows:
        alike[row.spec].append(row)
    images: list[TaskImage] = []
    for text, group in alike.items():
        specs = _specs(text, [row.task_id for row in group])
        demand = specs[0].demand.to_dict()
        for row, spec in zip(group, specs, strict=True):
            given: dict[str, Any] = {"demand": demand, "priority": spec.priority}
            if row.progress:
                given |= _kept(row.progress)
            state, seq, submitted_at, eligible_at = _STATES[row.state], row.seq, row.submitted_at, row.eligible_at
            call: Call | None = None
            if isinstance(row, Finished):
                given |= {"attempt": row.attempt, "started_at": row.started_at, "finished_at": row.finished_at}
                given |= {"node_id": row.node, "result": answers.get(row.task_id) if answers else None}
            elif row.function_hash is not None and row.call is not None:
                call = Call(row.function_hash, row.call, spec.name)
            images.append(
                TaskImage(spec, call, state, seq, submitted_at=submitted_at, eligible_at=eligible_at, **given)
            )
    return images


def _specs(text: str, task_ids: Sequence[str]) -> list[TaskSpec]:
    given = json.loads(text)
    dependencies = tuple(given.pop("dependencies", ()))
    template = TaskSpec.from_dict({"task_id": "any", **given})
    if dependencies:  # of which one may well have the template's id
        return [replace(template, task_id=task_id, dependencies=dependencies) for task_id in task_ids]
    return TaskSpec.many(template, task_ids)


def _kept(progress: str) -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(progress)
    if "devices" in kept:
        kept["devices"] = tuple((index, amount) for index, amount in kept["devices"])
    if "story" in kept:
        kept["story"] = tuple(kept["story"])
    return kept
