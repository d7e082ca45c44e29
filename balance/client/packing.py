"""Arguments as they travel: pickled fast where they are plain, and with the results of other tasks left open.

A future among the arguments of a task stands for the result of its own task.  It travels as that task's id;
the executor fetches the results of all such ids in one call before the task begins, and the scheduler lets
the task begin only when they are there.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from balance.client.travel import travelling
from balance.errors import InvalidValue, NotCompleted

NO_ARGUMENTS = pickle.dumps(((), {}), 5)


class _Context(threading.local):
    named: list[str] | None = None
    results: Mapping[str, Any] | None = None


_context = _Context()


def pack(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[bytes, tuple[str, ...]]:
    """Return the pickled arguments of a call, and the ids of the tasks whose results are among them.

    Raises
    ------
    InvalidValue
        They can't be pickled.

    Notes
    -----
    About 1 us for plain values; 20 us and more for what only Ray's pickler can handle: functions, and what
    is defined in the running script.

    Examples
    --------
    >>> data, ids = pack((1, "a"), {"x": 2.0})
    >>> pickle.loads(data), ids
    (((1, 'a'), {'x': 2.0}), ())
    """
    if not args and not kwargs:
        return NO_ARGUMENTS, ()
    _context.named = []
    try:
        data = _dumps((tuple(args), dict(kwargs)))
        named = tuple(dict.fromkeys(_context.named))
    finally:
        _context.named = None
    return (pickle.dumps(_Open(data, named), 5), named) if named else (data, ())


def _dumps(value: object) -> bytes:
    try:
        data = pickle.dumps(value, 5)
        if not any(name in data for name in travelling):
            return data
    except Exception:  # noqa: BLE001, S110 (whatever pickle can't do, Ray's pickler is asked to do)
        pass
    from ray import cloudpickle  # noqa: PLC0415 (heavy)

    try:
        slow: bytes = cloudpickle.dumps(value)
    except Exception as error:  # noqa: BLE001 (an object's own code says why it can't be pickled)
        raise InvalidValue("arguments", value, f"arguments that can be pickled ({error})") from None
    return slow


def name_result(task_id: str) -> tuple[Any, tuple[str]]:
    """Return how the result of a task travels, and note that the call that is being packed needs it."""
    if _context.named is None:
        raise TypeError("a TaskFuture travels only as an argument of a task")
    _context.named.append(task_id)
    return _result, (task_id,)


def _result(task_id: str) -> Any:
    assert _context.results is not None, "results are fetched before what names them is unpickled"
    return _context.results[task_id]


class _Open:
    """Arguments in which results are still open; unpickled, it is the arguments themselves."""

    def __init__(self, data: bytes, ids: tuple[str, ...]) -> None:
        self.data = data
        self.ids = ids

    def __reduce__(self) -> tuple[Any, ...]:
        return _filled, (self.data, self.ids)


def _filled(data: bytes, ids: tuple[str, ...]) -> Any:
    from balance.client.link import results  # noqa: PLC0415 (only executors come here)

    _context.results = {outcome.task_id: unpack(outcome) for outcome in results(ids)}
    try:
        return pickle.loads(data)  # noqa: S301 (it came over Ray's own channels, from a client)
    finally:
        _context.results = None


def unpack(outcome: Any) -> Any:
    """Return a completed task's result; raises the error that another end stands for."""
    if outcome.state != "completed":
        raise not_completed(outcome)
    value = outcome.value
    if type(value) is not bytes:
        from balance.client.link import fetch  # noqa: PLC0415 (only what is large comes by reference)

        value = fetch(outcome.task_id, value)
    return pickle.loads(value)  # noqa: S301 (it came over Ray's own channels, from an executor)


def not_completed(outcome: Any) -> NotCompleted:
    """Return the error that says how a task ended that has no result."""
    detail = outcome.detail or {}
    return NotCompleted.of(outcome.task_id, outcome.state, detail.get("reason", ""), detail.get("error"))
