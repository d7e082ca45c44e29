"""Executors: long-lived processes that run user code, one task at a time.

A function is sent to an executor once, by the hash of its pickle, and kept there; a call carries only
its arguments, and many short calls travel together as one `Chunk`.  Whatever user code does (raise, print,
``sys.exit``, die) ends up in a `Reply` or in the death of this process alone, which Ray reports to the
`Pool` that owns it.

Members of a chunk are taken one by one from the left end of a deque.  Who recalls the chunk takes from the
right end: both are atomic, so each member either begins here or is handed back, never both, without a lock
that every task would pay for.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray import cloudpickle

from actors.chunk import PROTOCOL, Chunk, Note, Reply
from actors.memory_meter import MemoryMeter
from actors.output import Output
from balance.client import grant
from balance.errors import ResultTooLarge

PREFIX = "executor-"
"""What the names of executors begin with."""

CONTROL = "control"
"""The concurrency group of the methods that answer while a task runs."""

CONTROL_THREADS = 4
"""One each for `abide`, `ping`, `recall` and `guard`."""

OUTPUT_LIMIT = 64 * 1024
"""How many characters of what a task printed, and of what it raised, are kept: the last so many."""

INLINE_BYTES = 64 * 1024
"""A result up to this size travels with the reply; a larger one is called for, and goes by Ray's object store."""

RESULT_LIMIT_BYTES = 64 * 2**20

FUNCTIONS_KEPT = 256

MEASURED_S = 0.05
"""The memory of runs shorter than this is not looked at."""

WATCH_EVERY_S = 0.02
"""How often `guard` looks at a task's memory."""

YIELDS_BY = 4
"""How much nicer an executor is to the scheduler of the operating system than the actors are."""


@dataclass(slots=True, eq=False)
class _Progress:
    """How far a chunk has come; the thread that runs it writes, those that recall and guard it read."""

    number: int
    pending: deque[int]
    total: int
    over: bool = False
    values: list[bytes | None] = field(default_factory=list)
    run_s: list[float] = field(default_factory=list)
    notes: dict[int, Note] = field(default_factory=dict)
    larges: dict[int, bytes] = field(default_factory=dict)


class ExecutorActor:
    """One process that runs tasks.

    Parameters
    ----------
    name : str
        Its name among the actors.
    devices : tuple of int
        The GPUs of its node that its tasks may use; they see no other.
    result_limit_bytes : int
        A larger result fails its task.

    Examples
    --------
    >>> from balance.client.grant import Share
    >>> from balance.client.wire import Function
    >>> function = Function.of(len)
    >>> calls = [function.call(text).arguments for text in ("one", "three", 3)]
    >>> blobs = {function.digest: function.blob}
    >>> chunk = Chunk(1, ("a", "b", "c"), (1, 1, 1), (function.digest,), (), calls, blobs, Share("n1", 1.0), 0.05)
    >>> executor = ExecutorActor("executor-1", devices=None)
    >>> reply = Reply.unpacked(executor.run(chunk.packed()))
    >>> [value and pickle.loads(value) for value in reply.values], reply.notes[2].error_type
    ([3, 5, None], 'TypeError')
    """

    def __init__(
        self, name: str, devices: tuple[int, ...] | None = (), result_limit_bytes: int = RESULT_LIMIT_BYTES
    ) -> None:
        self.name = name
        self.done = 0
        self._limit = result_limit_bytes
        self._functions: OrderedDict[str, Callable[..., Any]] = OrderedDict()
        self._output = Output(sys.stdout, OUTPUT_LIMIT)
        self._meter = MemoryMeter()
        self._progress = _Progress(0, deque(), 0, over=True)
        self._recalled = 0
        self._larges: tuple[int, dict[int, bytes]] = (0, {})
        if devices is not None:
            _settle_in(devices)

    def __repr__(self) -> str:
        return f"Balance<{self.name}>"

    # -- running -----------------------------------------------------------------------------------

    def run(self, packed: bytes) -> bytes:
        """Run a packed `Chunk`, one member after another, and return the packed `Reply`."""
        chunk = Chunk.unpacked(packed)
        if any(digest not in self._functions and digest not in chunk.blobs for digest in chunk.functions):
            return Reply(0, [], [], {}, missing=True).packed()
        self._larges = (chunk.number, {})
        progress = _Progress(chunk.number, deque(range(len(chunk.arguments))), len(chunk.arguments))
        self._meter.begin()
        self._progress = progress
        if self._recalled == chunk.number:  # looked at after it was made known: see `recall`
            progress.pending.clear()
        output = self._output
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                output.listening = True
                functions = [self._function(digest, chunk.blobs) for digest in chunk.functions]
                self._run_all(chunk, functions, progress)
                if chunk.overrun_s is None and progress.run_s and progress.run_s[0] >= MEASURED_S:
                    note = progress.notes.get(0, _ORDINARY)
                    progress.notes[0] = note._replace(peak_memory_bytes=self._meter.peak())
        finally:
            output.listening = False
            output.take()
            grant.now = None
            progress.over = True
        over = len(progress.run_s)
        self.done += over
        return Reply(over, progress.values, progress.run_s, progress.notes).packed()

    def _run_all(self, chunk: Chunk, functions: list[Callable[..., Any]], progress: _Progress) -> None:
        """Run what is pending, until it takes much longer than was thought."""
        clock, output, which = time.perf_counter, self._output, chunk.which
        task_ids, attempts, arguments = chunk.task_ids, chunk.attempts, chunk.arguments
        pending, values, run_s = progress.pending, progress.values, progress.run_s
        function = functions[0]
        began = clock()
        last = began + (chunk.overrun_s or 0.0)
        while pending:
            try:
                index = pending.popleft()
            except IndexError:  # recalled in this moment
                break
            if which:
                function = functions[which[index]]
            grant.now = grant.Grant(task_ids[index], attempts[index], chunk.share)
            values.append(self._value(function, arguments[index], index, progress))
            if output.parts:
                progress.notes[index] = progress.notes.get(index, _ORDINARY)._replace(output=_text(output.take()))
            over = clock()
            run_s.append(over - began)  # last: whatever is to be known of this member is there now
            if over > last:
                break
            began = over

    def _value(self, function: Callable[..., Any], arguments: bytes, index: int, progress: _Progress) -> bytes | None:
        """Call `function` and return its pickled result; whatever it raises becomes a note."""
        try:
            args, kwargs = cloudpickle.loads(arguments)
            value = self._packed(function(*args, **kwargs))
        except BaseException as raised:  # an exit, too, is how the task ended, not how this process does
            failure = "out_of_memory" if isinstance(raised, MemoryError) else "error"
            progress.notes[index] = Note(failure, _said(raised), type(raised).__name__, _trace(raised))
            return None
        if len(value) > INLINE_BYTES:
            progress.larges[index] = value
            progress.notes[index] = Note(large=True)
            self._larges = (progress.number, progress.larges)
            return None
        return value

    def _packed(self, result: object) -> bytes:
        """Pickle what a task returned; the error says that it was the result which can't be sent."""
        try:
            packed = pickle.dumps(result, PROTOCOL)
        except MemoryError:
            raise
        except Exception:  # what only this process knows goes by value
            try:
                packed = cloudpickle.dumps(result)
            except Exception as error:
                raise TypeError(f"the result, {type(result).__name__}, can't be pickled: {error}") from error
        if len(packed) > self._limit:
            raise ResultTooLarge(len(packed), self._limit)
        return packed

    def _function(self, digest: str, blobs: dict[str, bytes]) -> Callable[..., Any]:
        """Return a function by its hash; one that can't be loaded raises when it is called."""
        known = self._functions.get(digest)
        if known is None:
            try:
                known = cloudpickle.loads(blobs[digest])
            except BaseException as error:  # importing its module runs the user's code
                return _Broken(error)
            self._functions[digest] = known
            if len(self._functions) > FUNCTIONS_KEPT:
                self._functions.popitem(last=False)
        self._functions.move_to_end(digest)
        return known

    def prepare(self, digest: str, blob: bytes) -> str:
        """Load a function before anybody calls it, and let it prepare itself if it has a method of that name.

        Returns
        -------
        str
            What was raised; empty if it is ready.
        """
        output = self._output
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
                function = self._function(digest, {digest: blob})
                if isinstance(function, _Broken):
                    function()
                getattr(function, "prepare", _nothing)()
        except BaseException as raised:  # an exit, too: the first call will say the same
            return f"{type(raised).__name__}: {_said(raised)}"
        return ""

    # -- beside a run ------------------------------------------------------------------------------

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def ping(self) -> dict[str, Any]:
        """Answer with who this is: ``role``, ``state`` (``ready | busy``), ``pid``, ``done``."""
        state = "ready" if self._progress.over else "busy"
        return {"role": self.name, "state": state, "pid": os.getpid(), "done": self.done}

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def abide(self) -> None:
        """Never answer: who awaits this learns of the end of this process, whatever ends it."""
        threading.Event().wait()

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def recall(self, number: int) -> bytes | None:
        """Hand back the members of a chunk that have not begun.

        Returns
        -------
        bytes or None
            A packed `Reply`: those that are over, and how many have begun.  None if this chunk runs no more.
        """
        self._recalled = number  # before looking: a chunk that is just arriving looks for it
        progress = self._progress
        if progress.number < number:
            return Reply(0, [], [], {}).packed()
        if progress.number > number or progress.over:
            return None
        handed_back = 0
        with contextlib.suppress(IndexError):
            while True:
                progress.pending.pop()
                handed_back += 1
        over = len(progress.run_s)
        notes = {index: note for index, note in progress.notes.copy().items() if index < over}
        begun = progress.total - handed_back
        return Reply(begun, progress.values[:over], progress.run_s[:over], notes).packed()

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def large(self, number: int, index: int) -> bytes | None:
        """Give away the pickled result of a member that was too large for the reply; None once it is gone."""
        of, values = self._larges
        return values.pop(index, None) if of == number else None

    @ray.method(concurrency_group=CONTROL)  # type: ignore[untyped-decorator]
    def guard(self, number: int, limit_bytes: int) -> int | None:
        """Watch the memory of a run.

        Returns
        -------
        int or None
            By how many bytes it has grown, as soon as that is more than `limit_bytes`; None once it is over.
        """
        while (progress := self._progress).number <= number:
            if progress.number == number:
                grown = self._meter.growth()
                if progress.over:
                    break
                if grown > limit_bytes:
                    return grown
            time.sleep(WATCH_EVERY_S)
        return None


_ORDINARY = Note()


def _nothing() -> None:
    """Prepare nothing."""


class _Broken:
    """Stands for a function that can't be loaded."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def __call__(self, *_args: object, **_kwargs: object) -> None:
        kind = type(self._error).__name__
        raise RuntimeError(f"the function can't be loaded: {kind}: {_said(self._error)}") from self._error


def _settle_in(devices: tuple[int, ...]) -> None:
    """Leave the idle cycles to user code, but not those that the control plane needs; show it its devices."""
    os.nice(YIELDS_BY)
    seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    shown = [seen[index] if index < len(seen) else str(index) for index in devices]
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(shown)


def _said(raised: BaseException) -> str:
    """Return what an exception says; its ``__str__`` is the task's code, too."""
    try:
        return _text(str(raised))
    except BaseException as error:
        return f"its message can't be had ({type(error).__name__})"


def _trace(raised: BaseException) -> str:
    """Return the traceback from the task's own frame on."""
    inner = raised.__traceback__.tb_next if raised.__traceback__ is not None else None
    try:
        return _text("".join(traceback.format_exception(type(raised), raised, inner)))
    except BaseException as error:
        return f"its traceback can't be had ({type(error).__name__})"


def _text(text: str) -> str:
    """Return the end of a text, as a database takes it: a lone surrogate (a file's name) becomes a question mark.

    Examples
    --------
    >>> _text("caf\\udce9")
    'caf?'
    """
    return text[-OUTPUT_LIMIT:].encode("utf-8", "replace").decode()
