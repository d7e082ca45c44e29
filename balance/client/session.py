"""What a client and the scheduler say to each other, without a word on how it gets there.

A client asks for outcomes one call after another (`next_call`, `took`), each call confirming what the one
before has brought.  When the scheduler was restarted, or has had to forget outcomes, the client names the
tasks that it still waits for, and is told of those that are over.  So whatever dies, every future ends.

Invariant: a future that is open and whose submission was acknowledged is followed by the scheduler's present
incarnation, or is in `_to_follow`.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from itertools import count, islice
from typing import Any

from balance.client.futures import Book, TaskFuture
from balance.client.options import TaskOptions
from balance.client.packing import pack
from balance.client.travel import travels_along
from balance.client.wire import Bulk, Function, Kind
from balance.errors import BalanceError, InvalidValue
from balance.types import check_id, check_priority

Call = tuple[Callable[..., Any], Sequence[Any], dict[str, Any]]

COLLECT_WAIT_S = 20.0
"""How long one call waits for outcomes."""

COLLECT_LIMIT = 5000
"""How many outcomes one answer brings at most."""

FOLLOW_LIMIT = 2000
"""About how many tasks one call asks."""


class Session:
    """One client's side of the conversation.

    Parameters
    ----------
    book : Book
        The futures that are waited for.
    epoch : int
        The scheduler's incarnation.
    """

    def __init__(self, book: Book, epoch: int) -> None:
        self.book = book
        self.client_id = uuid.uuid4().hex
        self._epoch = epoch
        self._after = 0
        self._numbers = count(1)
        self._sent: set[str] = set()
        self._unacknowledged: set[str] = set()
        self._to_follow: dict[str, None] = {}
        self._lock = threading.Lock()

    # -- tasks out ---------------------------------------------------------------------------------

    def bulk(
        self,
        calls: Sequence[Call],
        options: TaskOptions,
        ids: Sequence[str] | None = None,
        priorities: Sequence[int] | int | None = None,
    ) -> tuple[Bulk, dict[str, Function]]:
        """Pack calls into a bulk; return it with the functions that it needs, of which it carries the unsent.

        Raises
        ------
        InvalidValue
            Something is not callable or can't be pickled, or an option, id or priority is out of range.
        """
        functions: dict[int, Function] = {}
        kinds: dict[int, int] = {}
        kind_list: list[Kind] = []
        kind_of: list[int] = []
        arguments: list[bytes] = []
        dependencies: dict[int, tuple[str, ...]] = {}
        for function, args, kwargs in calls:
            number = kinds.get(id(function))
            if number is None:
                packed = functions[id(function)] = _function(function)
                number = kinds[id(function)] = len(kind_list)
                kind_list.append(options.to_kind(packed.digest, packed.name))
            data, named = pack(args, kwargs)
            if named:
                dependencies[len(arguments)] = named
            arguments.append(data)
            kind_of.append(number)
        by_digest = {function.digest: function for function in functions.values()}
        after = tuple(_id_of(other) for other in options.after)
        if after:
            dependencies = {index: (*dependencies.get(index, ()), *after) for index in range(len(arguments))}
        bulk = Bulk(
            self._ids(calls, functions, options, ids),
            arguments,
            kind_list,
            kind_of if len(kind_list) != 1 else None,
            _priorities(priorities, options, len(arguments)),
            dependencies,
            {digest: each.blob for digest, each in by_digest.items() if digest not in self._sent},
            0 if ids is not None or options.task_id is not None else self._epoch,
        )
        return bulk, by_digest

    def _ids(
        self, calls: Sequence[Call], functions: dict[int, Function], options: TaskOptions, ids: Sequence[str] | None
    ) -> list[str]:
        if ids is not None:
            given = [check_id("task_id", task_id) for task_id in ids]
            if len(given) != len(calls):
                raise InvalidValue("ids", len(given), f"as many as there are tasks, {len(calls)}")
            return given
        if options.task_id is not None:
            if len(calls) != 1:
                raise InvalidValue("task_id", options.task_id, f"ids=[...] for {len(calls)} tasks")
            return [check_id("task_id", options.task_id)]
        labels = {
            key: (options.name or function.name).rpartition(".")[2].strip("<>")[:80]
            for key, function in functions.items()
        }
        mine, numbers = self.client_id[:16], self._numbers
        return [f"{labels[id(function)]}-{mine}-{next(numbers)}" for function, _, _ in calls]

    def opened(self, bulk: Bulk) -> tuple[list[TaskFuture[Any]], list[str]]:
        """Return the futures of a bulk that is about to be sent, and the ids that were not waited for before."""
        before = set(self.book.outstanding()) if bulk.epoch == 0 else set()
        new = [task_id for task_id in bulk.ids if task_id not in before] if before else bulk.ids
        with self._lock:
            self._unacknowledged.update(new)
        return self.book.open(bulk.ids), new

    def acknowledged(self, bulk: Bulk, new: Iterable[str], epoch: int) -> None:
        """Note that a bulk is durable."""
        self._sent.update(kind.function for kind in bulk.kinds)
        with self._lock:
            self._unacknowledged.difference_update(new)
            if epoch != self._epoch:  # who acknowledged it is gone, or is not known here yet
                self._to_follow.update(dict.fromkeys(new))

    def refused(self, new: Iterable[str]) -> None:
        """Note that a bulk was not accepted."""
        with self._lock:
            self._unacknowledged.difference_update(new)
        self.book.drop(new)

    # -- outcomes in -------------------------------------------------------------------------------

    def next_call(self) -> tuple[str, tuple[Any, ...]]:
        """Return the scheduler's method to call next, and its arguments."""
        with self._lock:
            asked = list(islice(self._to_follow, FOLLOW_LIMIT))
        if asked:
            return "follow", (self.client_id, asked)
        return "collect", (self.client_id, self._after, COLLECT_WAIT_S, COLLECT_LIMIT)

    def took(self, method: str, arguments: tuple[Any, ...], reply: dict[str, Any]) -> None:
        """Take in what the scheduler answered."""
        again = reply["epoch"] != self._epoch
        with self._lock:
            self._epoch = reply["epoch"]
            if method == "collect":
                self._after = reply["last"]
                again = again or reply["status"] == "lost"
            else:
                for task_id in arguments[1]:
                    self._to_follow.pop(task_id, None)
            if again:
                waited_for = self.book.outstanding()
                self._to_follow = {each: None for each in waited_for if each not in self._unacknowledged}
        self.book.settle(reply["outcomes"])

    def gone(self, error: BalanceError) -> None:
        """Let every future raise `error`: the scheduler has not answered for too long."""
        with self._lock:
            self._to_follow.clear()
        self.book.give_up(error)


def _function(function: Callable[..., Any]) -> Function:
    if not callable(function):
        raise InvalidValue("function", function, "a callable")
    travels_along(function)
    try:
        return Function.of(function)
    except Exception as error:  # noqa: BLE001 (an object's own code says why it can't be pickled)
        raise InvalidValue("function", function, f"a function that can be pickled ({error})") from None


def _label(name: str) -> str:
    return name.rpartition(".")[2].strip("<>")[:80] or "task"


def _priorities(given: Sequence[int] | int | None, options: TaskOptions, number: int) -> list[int] | int:
    if given is None or isinstance(given, int):
        return check_priority(options.priority if given is None else given)
    priorities = [check_priority(priority) for priority in given]
    if len(priorities) != number:
        raise InvalidValue("priorities", len(priorities), f"as many as there are tasks, {number}")
    return priorities


def _id_of(task: TaskFuture[Any] | str) -> str:
    return task.id if isinstance(task, TaskFuture) else check_id("task_id", task)
