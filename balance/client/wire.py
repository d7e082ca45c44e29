"""What travels between clients, the scheduler and executors: functions, calls and answers.

A function is pickled once and known by its hash; a call carries its arguments alone.  Ray's pickler is
imported where something is pickled, so that importing this module costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from balance.types import Priority


class Call(NamedTuple):
    """A function with its arguments, as it travels and as it is stored.

    Attributes
    ----------
    function : str
        SHA-256 of the pickled function.
    arguments : bytes
        Pickled ``(args, kwargs)``.
    name : str
        The function's name, for people.
    """

    function: str
    arguments: bytes
    name: str


@dataclass(frozen=True, slots=True)
class Function:
    """A function as it is sent once and kept by its hash.

    Attributes
    ----------
    digest : str
        SHA-256 of `blob`.
    blob : bytes
        The pickled function.
    name : str
        For people.
    """

    digest: str
    blob: bytes
    name: str

    @classmethod
    def of(cls, function: Callable[..., Any], name: str | None = None) -> Function:
        """Pickle a function (or anything else that can be called)."""
        from ray import cloudpickle  # noqa: PLC0415 (heavy)

        blob = cloudpickle.dumps(function)
        shown = name or getattr(function, "__qualname__", None) or type(function).__qualname__
        return cls(hashlib.sha256(blob).hexdigest(), blob, str(shown))

    def call(self, *args: Any, **kwargs: Any) -> Call:
        """Return the call of this function with these arguments.

        Examples
        --------
        >>> import pickle
        >>> function = Function.of(len)
        >>> function.call([1, 2, 3]).name, pickle.loads(function.blob) is len
        ('len', True)
        """
        from ray import cloudpickle  # noqa: PLC0415 (heavy)

        return Call(self.digest, cloudpickle.dumps((args, kwargs)), self.name)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call that returned has brought.

    Attributes
    ----------
    value : bytes or None
        The pickled result.
    output : str
        The end of what it printed.
    run_s : float
        Seconds that it ran.
    """

    value: bytes | None
    output: str = ""
    run_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LargeAnswer(Answer):
    """An answer whose result is in Ray's object store too, and here only until it is on disk.

    Attributes
    ----------
    reference : ObjectRef or None
        Of the pickled result; the scheduler owns the object.

    Examples
    --------
    >>> answer = LargeAnswer(b"a large result", reference="its reference")
    >>> answer.settle()
    >>> answer.value is None and answer.reference is None
    True
    """

    reference: Any = None

    def settle(self) -> None:
        """Let go of the result: it is on disk, and whoever follows the task has the reference."""
        object.__setattr__(self, "value", None)
        object.__setattr__(self, "reference", None)


class Kind(NamedTuple):
    """What many tasks of a bulk have in common.

    Attributes
    ----------
    function : str
        SHA-256 of the pickled function.
    name : str
        What kind of work it is: tasks of one name share their measured run times.
    options : dict
        Other attributes of `balance.core.scheduler.spec.TaskSpec`, as its ``to_dict`` returns them.
    delay_s : float
        Seconds after the scheduler took it in before a task may run.
    """

    function: str
    name: str
    options: dict[str, Any]
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Bulk:
    """Many tasks in one message; they are accepted together or not at all.

    Attributes
    ----------
    ids : list of str
        One for each task, in the order in which equals are to run.
    arguments : list of bytes
        Each task's pickled ``(args, kwargs)``.
    kinds : list of Kind
        What they have in common.
    kind_of : list of int or None
        Which of `kinds` each task is; None where there is only one.
    priorities : list of int, or int
        Each task's, or that of all.
    dependencies : dict
        By position: the ids that a task waits for.
    functions : dict
        Pickled functions by their hash: those that this client has not sent before.
    epoch : int
        The incarnation of the scheduler for which all `ids` are certainly new (made up by the client, and
        sent for the first time); 0 where they may be known.
    """

    ids: list[str]
    arguments: list[bytes]
    kinds: list[Kind]
    kind_of: list[int] | None = None
    priorities: list[int] | int = Priority.MEDIUM
    dependencies: dict[int, tuple[str, ...]] = field(default_factory=dict)
    functions: dict[str, bytes] = field(default_factory=dict)
    epoch: int = 0

    def calls(self) -> list[Call]:
        """Return what each task is to call."""
        if self.kind_of is None:
            function, name = self.kinds[0].function, self.kinds[0].name
            return [Call(function, arguments, name) for arguments in self.arguments]
        kinds = self.kinds
        pairs = zip(self.kind_of, self.arguments, strict=True)
        return [Call(kinds[number].function, arguments, kinds[number].name) for number, arguments in pairs]


class Outcome(NamedTuple):
    """How a task ended, as its client is told.

    Attributes
    ----------
    task_id : str
        Its id.
    state : str
        One of `balance.core.scheduler.states.TERMINAL`, or ``unknown`` where there is no such task.
    value : bytes or ObjectRef or None
        The pickled result; where it is large, a reference to those bytes in Ray's object store.
    detail : dict or None
        ``output`` where it printed something; ``reason``, ``error`` and ``attempt`` where it did not complete.
    """

    task_id: str
    state: str
    value: Any = None
    detail: dict[str, Any] | None = None


PlainOutcome = tuple[str, str, Any, dict[str, Any] | None]
"""An `Outcome` as it travels: a plain tuple is pickled ten times as fast as one with names."""
