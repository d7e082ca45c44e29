"""The scheduler's journal in the store: every change of a task is written behind, in one commit with others.

`record` hands the changes to the group commit and returns; whoever acknowledges something awaits
`durable` first.  The one thing that must be on disk before it happens is the start of a task that may not
run twice, and for that `record` waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import fields
from typing import Any

from ray import cloudpickle

from actors.executors import Call
from balance.core.scheduler.spec import TaskSpec
from balance.core.scheduler.states import State
from balance.core.scheduler.task import TaskImage
from balance.storage import GroupCommit, Store

_IN_COLUMNS = {"spec", "call", "state", "priority", "result"}
_IN_IMAGE = [field.name for field in fields(TaskImage) if field.name not in _IN_COLUMNS]

FINISHED_LOADED = 1000
"""How many tasks that are over are remembered after a restart; the others' outcomes are in the store."""


class TaskJournal:
    """Keeps the images of tasks.

    Parameters
    ----------
    store : Store
        Read at a restart.
    commits : GroupCommit
        Writes.
    """

    def __init__(self, store: Store, commits: GroupCommit) -> None:
        self._store = store
        self._commits = commits
        self._known: set[str] = set()
        self._last: Future[Any] | None = None

    def record(self, changes: Sequence[TaskImage]) -> None:
        """Write the changes behind; waits only where a task that is not idempotent starts."""
        new = [image for image in changes if image.task_id not in self._known]
        self._known.update(image.task_id for image in new)
        inserts = [_row(image) | _call_columns(image) for image in new]
        fresh = {image.task_id for image in new}
        updates = [_row(image) for image in changes if image.task_id not in fresh]

        def write(tx: Any) -> None:
            tx.tasks.insert(inserts)
            tx.tasks.update(updates)

        self._last = self._commits.submit(write)
        if any(image.state is State.RUNNING and not image.spec.idempotent for image in changes):
            self._last.result()
        self._known.difference_update(image.task_id for image in changes if image.state.terminal)

    async def durable(self) -> None:
        """Return when everything recorded so far is on disk; raises what the store raised."""
        if self._last is not None and not self._last.done():
            await asyncio.wrap_future(self._last)
        elif self._last is not None:
            self._last.result()

    def load(self) -> Iterable[TaskImage]:
        """Return the tasks that are not over, and the last of those that are."""
        with self._store.reading() as tx:
            rows = [*tx.tasks.unfinished(), *tx.tasks.finished(FINISHED_LOADED)]
        self._known.update(row["task_id"] for row in rows if not State(row["state"]).terminal)
        return [_image(row) for row in rows]


def _row(image: TaskImage) -> dict[str, Any]:
    return {
        "task_id": image.task_id,
        "state": str(image.state),
        "priority": image.priority,
        "tenant": image.spec.tenant,
        "spec": {"spec": image.spec.to_dict(), **{name: getattr(image, name) for name in _IN_IMAGE}},
        "submitted_at": image.submitted_at,
        "started_at": image.started_at,
        "finished_at": image.finished_at,
        "attempt": image.attempt,
        "node": image.node_id,
        "outcome": {"error": image.error, "reason": image.reason},
        "result": None if image.result is None else cloudpickle.dumps(image.result),
    }


def _call_columns(image: TaskImage) -> dict[str, Any]:
    call = image.call
    if not isinstance(call, Call):
        return {}
    return {"function_hash": call.function, "call": call.arguments}


def _image(row: dict[str, Any]) -> TaskImage:
    kept = dict(row["spec"])
    spec = TaskSpec.from_dict(kept.pop("spec"))
    kept["devices"] = tuple((index, amount) for index, amount in kept["devices"])
    kept["story"] = tuple(kept["story"])
    call = Call(row["function_hash"], row["call"], spec.name) if row["function_hash"] else None
    result = None if row["result"] is None else cloudpickle.loads(row["result"])
    return TaskImage(spec=spec, call=call, state=State(row["state"]), priority=row["priority"], result=result, **kept)
