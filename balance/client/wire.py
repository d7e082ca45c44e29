"""What travels between clients, the scheduler and executors: functions, calls and answers.

A function is pickled once and known by its hash; a call carries its arguments alone.  Ray's pickler is
imported where something is pickled, so that importing this module costs nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
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
    """How one call ended.

    Attributes
    ----------
    ok : bool
        Whether the function returned.
    value : bytes or None
        The pickled result.
    error, error_type : str
        The message and the class of what it raised, where it did not return.
    traceback : str
        For the submitter.
    output : str
        The end of what it printed.
    run_s : float
        Seconds that it ran.
    missing : bool
        The function was not known there; nothing ran.
    """

    ok: bool
    value: bytes | None = None
    error: str = ""
    error_type: str = ""
    traceback: str = ""
    output: str = ""
    run_s: float = 0.0
    missing: bool = False
