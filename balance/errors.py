"""Every error that Balance raises on purpose.

An error names a fact: its class says what happened, its message says which value, what was expected
and what to do next, and its ``details`` carry the same as JSON values for programs.  A refusal that a
caller must expect (``denied``, ``timed_out``) is not an error: it is a result with a ``status``.

Errors pickle with their type and details intact, so they cross Ray actor calls unchanged.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
from collections.abc import Iterable
from typing import Any

LOOKED_AT = 500
"""Among how many ids a near one is looked for: a wrong id must not cost more than a right one by much."""


class BalanceError(Exception):
    """Balance could not do what was asked.

    Parameters
    ----------
    message : str, optional
        What happened, for a person.  The class docstring's first line when left out.
    **details
        The same for a program: JSON values only.

    Examples
    --------
    >>> error = BalanceError("the store is closed", path="/tmp/state.db")
    >>> str(error), error.details
    ('the store is closed', {'path': '/tmp/state.db'})
    """

    def __init__(self, message: str | None = None, **details: Any) -> None:
        super().__init__(message or (inspect.getdoc(type(self)) or type(self).__name__).splitlines()[0])
        self.details: dict[str, Any] = details

    @property
    def code(self) -> str:
        """The class name: a stable word for programs and logs."""
        return type(self).__name__

    def to_dict(self) -> dict[str, Any]:
        """Return the error as JSON values: ``error`` (class name), ``message``, ``details``."""
        return {"error": self.code, "message": str(self), "details": self.details}

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), str(self), self.details))


def _rebuild(kind: type[BalanceError], message: str, details: dict[str, Any]) -> BalanceError:
    error = kind.__new__(kind)
    BalanceError.__init__(error, message, **details)
    return error


class InvalidValue(BalanceError, ValueError):
    """A value is not what it has to be.

    Parameters
    ----------
    name : str
        The parameter or field.
    value : object
        What was given (its ``repr`` goes into the message).
    expected : str
        What would have been accepted.

    Examples
    --------
    >>> print(InvalidValue("cpu_demand", -1.0, "a finite number of cores, 0 or more"))
    cpu_demand is -1.0; expected a finite number of cores, 0 or more
    """

    def __init__(self, name: str, value: object, expected: str) -> None:
        shown = repr(value)
        shown = shown if len(shown) <= 200 else shown[:197] + "..."
        super().__init__(f"{name} is {shown}; expected {expected}", name=name, value=shown, expected=expected)


class UnknownId(BalanceError, LookupError):
    """No such id is known.

    Parameters
    ----------
    kind : str
        What was looked up: ``"model"``, ``"task"``, ...
    given : str
        The id that was asked for.
    known : iterable of str
        The ids there are; the nearest three among the first `LOOKED_AT` are named.

    Examples
    --------
    >>> print(UnknownId("model", "whispr", ["whisper", "llama"]))
    no model 'whispr' is known; did you mean 'whisper'?
    """

    def __init__(self, kind: str, given: str, known: Iterable[str] = ()) -> None:
        everything = sorted(set(itertools.islice(known, LOOKED_AT)))
        near = difflib.get_close_matches(str(given), everything, n=3, cutoff=0.5)
        if near:
            hint = "; did you mean " + " or ".join(repr(n) for n in near) + "?"
        elif everything:
            hint = "; there are " + ", ".join([*map(repr, everything[:5]), *(["..."] if len(everything) > 5 else [])])
        else:
            hint = f"; no {kind} has been registered yet"
        super().__init__(f"no {kind} {given!r} is known{hint}", kind=kind, given=str(given), nearest=near)


class Conflict(BalanceError):
    """The same id stands for something else already."""


class DependencyCycle(BalanceError):
    """The dependencies form a cycle, so none of these tasks could ever run.

    Parameters
    ----------
    cycle : list of str
        The task ids around the cycle, the first one repeated at the end.

    Examples
    --------
    >>> print(DependencyCycle(["a", "b", "a"]))
    the dependencies form a cycle: a -> b -> a
    """

    def __init__(self, cycle: list[str]) -> None:
        super().__init__("the dependencies form a cycle: " + " -> ".join(cycle), cycle=list(cycle))


class InvalidTransition(BalanceError):
    """A task was told to do what its state does not allow.

    Parameters
    ----------
    task_id, state, event : str
        The task, the state that it is in, and what it was told.
    story : list of str
        What happened to the task so far, oldest first.
    """

    def __init__(self, task_id: str, state: str, event: str, story: list[str] | None = None) -> None:
        tail = ("\n  " + "\n  ".join(story)) if story else ""
        super().__init__(
            f"task {task_id!r} is {state}; {event} is not possible then{tail}",
            task_id=task_id,
            state=state,
            event=event,
            story=list(story or []),
        )


class ResultTooLarge(BalanceError):
    """A task returned more than is kept of a result.

    Parameters
    ----------
    size_bytes, limit_bytes : int
        Of the pickled result, and the most that it may have.

    Examples
    --------
    >>> print(ResultTooLarge(3_000_000, 1_000_000))
    the result has 3000000 bytes, at most 1000000 are kept (result_limit_bytes); return where it is instead
    """

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"the result has {size_bytes} bytes, at most {limit_bytes} are kept (result_limit_bytes); "
            "return where it is instead",
            size_bytes=size_bytes,
            limit_bytes=limit_bytes,
        )


class NotYet(BalanceError, TimeoutError):
    """It has not happened within the time that the caller gave it; it goes on."""


class NotCompleted(BalanceError):
    """A task is over and has no result.

    Parameters
    ----------
    task_id, state : str
        The task, and how it ended.
    reason : str
        Why, in a sentence.
    error : dict, optional
        What the scheduler says of it: ``kind``, ``type``, ``message``, ``traceback``; of a denied task
        ``resource``, ``lacking``, ``largest_possible``.

    Examples
    --------
    >>> print(NotCompleted.of("fit-1", "cancelled", "cancelled by request"))
    task 'fit-1' is cancelled: cancelled by request
    >>> try:
    ...     raise NotCompleted.of("fit-2", "failed", "raised ValueError: no", {"traceback": "Traceback ..."})
    ... except TaskFailed as error:
    ...     print(error.traceback)
    Traceback ...
    """

    def __init__(self, task_id: str, state: str, reason: str = "", error: dict[str, Any] | None = None) -> None:
        said = f"task {task_id!r} is {state}: {reason}" if reason else f"task {task_id!r} is {state}"
        trace = (error or {}).get("traceback")
        super().__init__(
            f"{said}\n\n{trace}" if trace else said, task_id=task_id, state=state, reason=reason, error=error
        )

    @staticmethod
    def of(task_id: str, state: str, reason: str = "", error: dict[str, Any] | None = None) -> NotCompleted:
        """Return the error for a task that ended in `state`."""
        return _NOT_COMPLETED.get(state, NotCompleted)(task_id, state, reason, error)


class TaskFailed(NotCompleted):
    """A task raised, or its process died, more often than it may be tried again."""

    @property
    def traceback(self) -> str:
        """The traceback in the task's process and what it had printed; empty where its process died."""
        return str((self.details["error"] or {}).get("traceback") or "")


class TaskCancelled(NotCompleted):
    """A task was cancelled."""


class TaskDenied(NotCompleted):
    """No node could ever hold the task; ``details["error"]`` names what lacks, and the most that is possible."""


class TaskTimedOut(NotCompleted):
    """A task ran for too long, or its deadline passed."""


class UpstreamFailed(NotCompleted):
    """A task that this one waits for did not complete."""


_NOT_COMPLETED: dict[str, type[NotCompleted]] = {
    "failed": TaskFailed,
    "cancelled": TaskCancelled,
    "denied": TaskDenied,
    "timed_out": TaskTimedOut,
    "upstream_failed": UpstreamFailed,
}


class NotReady(BalanceError):
    """A service was used before it was initialised, or after it was shut down."""


class StorageError(BalanceError):
    """The durable state could not be read or written."""


class StaleEpoch(StorageError):
    """A newer owner has taken over; this one may not write any more."""


class MessageRejected(BalanceError):
    """A message can't be handled and never will be: it goes to the dead-letter topic."""


class AccessRefused(BalanceError):
    """A place that Balance does not read from or write to unless the configuration allows it."""


class SourceUnavailable(BalanceError):
    """The source of the data did not deliver; trying again later may help."""


class ConfigurationError(BalanceError):
    """The configuration can't be used as it is."""


class ClusterError(BalanceError):
    """Balance could not be started on, or reached on, the cluster."""


class TraceError(BalanceError):
    """A trace file can't be read as a list of requests."""
