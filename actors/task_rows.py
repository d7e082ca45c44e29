"""Between a task in the engine and its rows in the store: what is written of each change, and how it is read back.

What hardly any task has (failures, a story, a changed priority) goes into one JSON text, left out where there
is none of it; and a spec's JSON is made once for all tasks that differ in nothing but their id.  So a
submission costs two short rows, and an end one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import Any

from balance.client.wire import Answer, Call
from balance.core.scheduler.spec import TaskSpec
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task, TaskImage
from balance.storage.tasks import End, Finished, New, Open, Unfinished
from balance.types import Resources

log = logging.getLogger("balance.task_journal")

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
    spec = TaskSpec("task", **dict(zip(_SPEC_FIELDS, values, strict=True))).to_dict()
    del spec["task_id"]
    return _as_json(spec)


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


@lru_cache(maxsize=SPECS_KEPT)
def _spec_fields(text: str) -> dict[str, Any]:
    """Return the constructor's arguments, `task_id` apart, as `TaskSpec.from_dict` would make them."""
    return dict(zip(_SPEC_FIELDS, _spec_key(TaskSpec.from_dict({"task_id": "task", **json.loads(text)})), strict=True))


def image_of(row: Unfinished | Finished, answer: Answer | None = None) -> TaskImage:
    """Read a task back; one that is over has its result only where it is given."""
    given = _spec_fields(row.spec)
    spec = TaskSpec(row.task_id, **given)
    kept: dict[str, Any] = json.loads(row.progress) if row.progress else {}
    if "devices" in kept:
        kept["devices"] = tuple((index, amount) for index, amount in kept["devices"])
    if "story" in kept:
        kept["story"] = tuple(kept["story"])
    call = None
    if isinstance(row, Finished):
        kept.update(
            attempt=row.attempt, started_at=row.started_at, finished_at=row.finished_at, node_id=row.node, result=answer
        )
    elif row.function_hash is not None and row.call is not None:
        call = Call(row.function_hash, row.call, spec.name)
    kept.setdefault("priority", spec.priority)
    if "demand" not in kept:
        kept["demand"] = _demand(spec.demand)
    return TaskImage(
        spec, call, State(row.state), row.seq, submitted_at=row.submitted_at, eligible_at=row.eligible_at, **kept
    )


@lru_cache(maxsize=SPECS_KEPT)
def _demand(demand: Resources) -> dict[str, Any]:
    return demand.to_dict()
