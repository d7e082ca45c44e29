"""The scheduler's journal in the store: every change of a task is written behind, in one commit with others.

`record` hands the changes to the group commit and returns; whoever acknowledges something awaits
`durable` first.  The one thing that must be on disk before it happens is the start of a task that may not
run twice, and for that `record` waits.

A write that fails loses nothing: what it carried stays pending, and the next write (or `durable`) carries it
again, task by task, so that one task that can't be written keeps no other from the disk.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import fields
from typing import Any

from ray import cloudpickle

from balance.client.wire import Call
from balance.core.scheduler.spec import TaskSpec
from balance.core.scheduler.states import State
from balance.core.scheduler.task import TaskImage
from balance.errors import StorageError
from balance.storage import GroupCommit, Store

_IN_COLUMNS = {"spec", "call", "state", "priority", "result"}
_IN_IMAGE = [field.name for field in fields(TaskImage) if field.name not in _IN_COLUMNS]

FINISHED_LOADED = 1000
"""How many tasks that are over are remembered after a restart; the others' outcomes are in the store."""

log = logging.getLogger("balance.task_journal")


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
        # Shared with the thread that commits, which strikes off what has reached the disk.
        self._lock = threading.Lock()
        self._pending: dict[str, tuple[int, TaskImage]] = {}
        self._number = 0
        self._failed = False

    def record(self, changes: Sequence[TaskImage]) -> None:
        """Write the changes behind; waits only where a task that is not idempotent starts."""
        last = self._write(changes)
        if any(image.state is State.RUNNING and not image.spec.idempotent for image in changes):
            last.result()

    def _write(self, changes: Sequence[TaskImage]) -> Future[Any]:
        """Hand in the changes, and with them whatever an earlier write did not bring to the disk."""
        with self._lock:
            self._number += 1
            number = self._number
            self._pending.update((image.task_id, (number, image)) for image in changes)
            again, self._failed = self._failed, False
            images = [image for _, image in self._pending.values()] if again else list(changes)
        self._last = last = self._commits.submit(_one_by_one(images) if again else self._together(images))
        self._known.update(image.task_id for image in images)
        self._known.difference_update(image.task_id for image in images if image.state.terminal)
        last.add_done_callback(lambda done: self._written(done, number, images))
        return last

    def _together(self, images: Sequence[TaskImage]) -> Callable[[Any], None]:
        inserts = [_row(image) | _call_columns(image) for image in images if image.task_id not in self._known]
        updates = [_row(image) for image in images if image.task_id in self._known]

        def write(tx: Any) -> None:
            tx.tasks.insert(inserts)
            tx.tasks.update(updates)

        return write

    def _written(self, done: Future[Any], number: int, images: Sequence[TaskImage]) -> None:
        failed = done.cancelled() or done.exception() is not None
        with self._lock:
            if failed:
                self._failed = True
                return
            for image in images:
                if self._pending.get(image.task_id, (number + 1,))[0] <= number:
                    del self._pending[image.task_id]

    async def durable(self) -> None:
        """Return when everything recorded so far is on disk; raises what the store raised, twice."""
        if self._last is not None:
            # Shielded: who gives up waiting must not take the write with it.
            await asyncio.gather(asyncio.shield(asyncio.wrap_future(self._last)), return_exceptions=True)
        if self._failed:
            await asyncio.shield(asyncio.wrap_future(self._write(())))

    def load(self) -> Iterable[TaskImage]:
        """Return the tasks that are not over, and the last of those that are (without their results)."""
        with self._store.reading() as tx:
            rows = [*tx.tasks.unfinished(), *tx.tasks.finished(FINISHED_LOADED)]
        self._known.update(row["task_id"] for row in rows if not State(row["state"]).terminal)
        return [_image(row) for row in rows]


def _one_by_one(images: Iterable[TaskImage]) -> Callable[[Any], None]:
    """Return a write that needs to know nothing of what an earlier one achieved."""
    rows = [(_row(image), _call_columns(image)) for image in images]

    def write(tx: Any) -> None:
        for row, call in rows:
            try:
                with tx.savepoint():
                    if tx.tasks.get(row["task_id"]) is None:
                        tx.tasks.insert([row | call])
                    else:
                        tx.tasks.update([row])
            except StorageError:
                raise
            except Exception:
                log.exception("event=task_not_written task_id=%s", row["task_id"])

    return write


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
    """Read a row back; one of `finished` has neither call nor result."""
    kept = dict(row["spec"])
    spec = TaskSpec.from_dict(kept.pop("spec"))
    kept["devices"] = tuple((index, amount) for index, amount in kept["devices"])
    kept["story"] = tuple(kept["story"])
    call = Call(row["function_hash"], row["call"], spec.name) if row.get("call") is not None else None
    result = cloudpickle.loads(row["result"]) if row.get("result") is not None else None
    return TaskImage(spec=spec, call=call, state=State(row["state"]), priority=row["priority"], result=result, **kept)
