"""Submitting tasks with the same options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from balance.client.futures import TaskFuture
from balance.client.options import OptionChanges, TaskOptions
from balance.errors import InvalidValue

if TYPE_CHECKING:
    from balance.client.client import Client
    from balance.client.session import Call

T = TypeVar("T")


class Submitter:
    """Submits tasks; `Client` is one, with the default options.

    What it returns is acknowledged: the tasks are durable, and go on whatever becomes of this program.

    Parameters
    ----------
    client : Client
        Who sends them.
    options : TaskOptions
        How they are to be run.
    """

    def __init__(self, client: Client, options: TaskOptions) -> None:
        self._client = client
        self._options = options

    def options(self, **changes: Unpack[OptionChanges]) -> Submitter:
        """Return a submitter with some of these options changed: ``client.options(priority=1).submit(f)``.

        Raises
        ------
        InvalidValue
            There is no such option.
        """
        return Submitter(self._client, self._options.changed(**changes))

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> TaskFuture[T]:
        """Run ``function(*args, **kwargs)`` on the cluster.

        Parameters
        ----------
        function : callable
            What it imports has to be installed on the nodes; the script's own code travels with it.
        *args, **kwargs
            A `TaskFuture` among them stands for its task's result, once that is there.

        Raises
        ------
        InvalidValue
            Something can't be pickled, or an option is out of range.
        Conflict
            The id stands for another call.
        UnknownId, DependencyCycle
            A task to wait for is not known, or waits for this one.
        NotReady
            The scheduler drains, or the client is closed.
        ClusterError
            The scheduler does not answer.
        """
        future: TaskFuture[T] = self._client._send([(function, args, kwargs)], self._options)[0]
        return future

    def submit_many(
        self,
        calls: Iterable[Sequence[Any]],
        *,
        ids: Sequence[str] | None = None,
        priorities: Sequence[int] | int | None = None,
    ) -> list[TaskFuture[Any]]:
        """Run many calls, accepted together or not at all; for thousands much cheaper than one by one.

        Parameters
        ----------
        calls : iterable
            Each ``(function,)``, ``(function, args)`` or ``(function, args, kwargs)``.
        ids : sequence of str, optional
            An id for each; made up when left out.
        priorities : sequence of int, or int, optional
            A priority for each, or for all; that of the options when left out.

        Raises
        ------
        InvalidValue, Conflict, UnknownId, DependencyCycle, NotReady, ClusterError
            As `submit`; nothing is submitted then.
        """
        return self._client._send([whole_call(call) for call in calls], self._options, ids, priorities)

    def map(
        self,
        function: Callable[..., T],
        /,
        *iterables: Iterable[Any],
        ids: Sequence[str] | None = None,
        priorities: Sequence[int] | int | None = None,
    ) -> list[TaskFuture[T]]:
        """Run ``function(*items)`` for the items that stand side by side in the iterables; see `submit_many`."""
        calls: list[Call] = [(function, args, {}) for args in zip(*iterables, strict=False)]
        return self._client._send(calls, self._options, ids, priorities)


def whole_call(call: Sequence[Any]) -> Call:
    """Return a call as function, arguments and keyword arguments.

    Examples
    --------
    >>> whole_call((len, ["abc"]))
    (<built-in function len>, ['abc'], {})
    """
    given = tuple(call) if isinstance(call, tuple | list) else ()
    match given:
        case (function,):
            return function, (), {}
        case (function, tuple() | list() as args):
            return function, args, {}
        case (function, tuple() | list() as args, dict() as kwargs):
            return function, args, kwargs
    raise InvalidValue("call", call, "(function,), (function, args) or (function, args, kwargs)")
