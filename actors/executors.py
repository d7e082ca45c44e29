"""Executors: long-lived processes that run user code, one task at a time.

A function is sent to an executor once, by the hash of its pickle, and kept there; a call carries only
its arguments.  Whatever user code does (raise, print, ``sys.exit``, die) ends up in an `Answer` or in the
death of this process alone, which Ray reports to the `Pool` that owns it.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ray import cloudpickle

from balance.client.wire import Answer, Call

PREFIX = "executor-"
"""What the names of executors begin with."""

OUTPUT_LIMIT_BYTES = 64 * 1024
"""How much of what a task printed is kept: the last so many bytes."""

FUNCTIONS_KEPT = 256

YIELDS_BY = 4
"""How much nicer an executor is to the scheduler of the operating system than the actors are."""


class ExecutorActor:
    """One process that runs tasks.

    Parameters
    ----------
    name : str
        Its name among the actors.
    """

    def __init__(self, name: str) -> None:
        # User code may take every idle cycle, but not those that the control plane needs to answer.
        os.nice(YIELDS_BY)
        self.name = name
        self.now_running = ""
        self.done = 0
        self._functions: OrderedDict[str, Callable[..., Any]] = OrderedDict()

    def __repr__(self) -> str:
        return f"Balance<{self.name}>"

    def ping(self) -> dict[str, Any]:
        """Answer with who this is."""
        return {"role": self.name, "state": "ready", "pid": os.getpid(), "done": self.done}

    def run(self, call: Call, function: bytes | None = None) -> Answer:
        """Run one call and say how it ended; `function` is its pickle where it may not be known here."""
        known = self._functions.get(call.function)
        if known is None:
            if function is None:
                return Answer(False, missing=True)
            try:
                known = cloudpickle.loads(function)
            except Exception as error:
                return Answer(
                    False,
                    error=f"the function can't be loaded: {error}",
                    error_type=type(error).__name__,
                    traceback=traceback.format_exc(),
                )
            self._functions[call.function] = known
            if len(self._functions) > FUNCTIONS_KEPT:
                self._functions.popitem(last=False)
        self._functions.move_to_end(call.function)
        return self._answer(known, call)

    def _answer(self, function: Callable[..., Any], call: Call) -> Answer:
        printed = io.StringIO()
        before = time.perf_counter()
        ok, value, error, kind, trace = False, None, "", "", ""
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                args, kwargs = cloudpickle.loads(call.arguments)
                value = _packed(function(*args, **kwargs))
                ok = True
            except BaseException as raised:  # an exit, too, is how the task ended, not how this process does
                error, kind = _text(raised), type(raised).__name__
                trace = traceback.format_exc()
        self.done += 1
        text = printed.getvalue()[-OUTPUT_LIMIT_BYTES:]
        return Answer(ok, value, error, kind, _storable(trace), _storable(text), time.perf_counter() - before)


def _packed(result: object) -> bytes:
    """Pickle what a task returned; `TypeError` says that it was the result which can't be sent."""
    try:
        packed: bytes = cloudpickle.dumps(result)
    except Exception as error:
        raise TypeError(f"the result, {type(result).__name__}, can't be pickled: {error}") from error
    return packed


def _text(raised: BaseException) -> str:
    """Return what an exception says; its ``__str__`` is the task's code, too."""
    try:
        return _storable(str(raised))
    except BaseException as error:
        return f"its message can't be had ({type(error).__name__})"


def _storable(text: str) -> str:
    """Return text that a database takes: a lone surrogate (from the name of a file, say) becomes a question mark.

    Examples
    --------
    >>> _storable("caf\\udce9")
    'caf?'
    """
    return text.encode("utf-8", "replace").decode()
