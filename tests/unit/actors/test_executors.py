"""An executor in this process: what it makes of a chunk, and what others may ask of it meanwhile."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors.chunk import Chunk, Reply
from actors.executors import INLINE_BYTES, OUTPUT_LIMIT, ExecutorActor
from actors.output import Output
from balance.client.grant import Share, grant
from balance.client.wire import Function

SHARE = Share("n1", 2.0, 5, 0.5, (1,))
MIB = 2**20


@pytest.fixture
def executor() -> ExecutorActor:
    """One that keeps this process as it is."""
    return ExecutorActor("executor-1", devices=None, result_limit_bytes=MIB)


@pytest.fixture
def restless() -> Iterator[None]:
    """Let the interpreter change threads all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def chunk_of(*functions: Callable[[], object], number: int = 1, overrun_s: float | None = 60.0) -> Chunk:
    """Return a chunk with one call of each function."""
    sent = [Function.of(function) for function in functions]
    digests = tuple(dict.fromkeys(each.digest for each in sent))
    return Chunk(
        number,
        tuple(f"t{index}" for index in range(len(sent))),
        tuple(range(1, len(sent) + 1)),
        digests,
        tuple(digests.index(each.digest) for each in sent) if len(digests) > 1 else (),
        [each.call().arguments for each in sent],
        {each.digest: each.blob for each in sent},
        SHARE,
        overrun_s,
    )


def ran(executor: ExecutorActor, *functions: Callable[[], object], **how: Any) -> Reply:
    """Run a chunk to its end."""
    return Reply.unpacked(executor.run(chunk_of(*functions, **how).packed()))


@contextlib.contextmanager
def running(executor: ExecutorActor, chunk: Chunk) -> Iterator[dict[str, Reply]]:
    """Run a chunk in a thread beside; what it replied is there afterwards."""
    replies: dict[str, Reply] = {}
    thread = threading.Thread(target=lambda: replies.update(run=Reply.unpacked(executor.run(chunk.packed()))))
    thread.start()
    yield replies
    thread.join(10)
    assert not thread.is_alive()


def test_each_member_has_its_own_result_time_and_output(executor: ExecutorActor) -> None:
    """Values in order, what was printed with whom printed it, on stdout or stderr, as text or as bytes."""

    def loud() -> None:
        print("to stdout")
        print("to stderr", file=sys.stderr)
        sys.stdout.buffer.write(b"bytes \xff\n")

    reply = ran(executor, lambda: 1, loud, lambda: "x")
    assert [pickle.loads(value or b"") for value in reply.values] == [1, None, "x"]
    assert reply.begun == 3 and len(reply.run_s) == 3 and min(reply.run_s) >= 0
    assert {index: note.output for index, note in reply.notes.items()} == {1: "to stdout\nto stderr\nbytes \ufffd\n"}


def test_a_member_knows_its_task_and_its_share(executor: ExecutorActor) -> None:
    """`grant` tells id, attempt and resources inside of a task, and nothing outside."""
    reply = ran(executor, grant, grant)
    assert [pickle.loads(value or b"") for value in reply.values] == [("t0", 1, SHARE), ("t1", 2, SHARE)]
    assert grant() is None


def test_only_the_end_of_a_long_output_is_kept(executor: ExecutorActor) -> None:
    """A task that prints without end fills no memory: the last characters are what its reader gets."""

    def flood() -> None:
        for number in range(3 * OUTPUT_LIMIT // 100):
            print(f"{number:099d}")

    output = ran(executor, flood).notes[0].output
    assert len(output) == OUTPUT_LIMIT and output.endswith(f"{3 * OUTPUT_LIMIT // 100 - 1:099d}\n")


def test_a_handler_made_by_one_task_serves_the_next(executor: ExecutorActor) -> None:
    """A logging handler keeps the stream that it found; what it writes later belongs to who runs then."""
    name = "a task's logger"

    def first() -> None:
        logging.getLogger(name).addHandler(logging.StreamHandler())
        logging.getLogger(name).propagate = False

    def second() -> None:
        logging.getLogger(name).warning("said by the second")

    ran(executor, first)
    assert ran(executor, second, number=2).notes[0].output == "said by the second\n"
    second()  # between two tasks, from a thread that one of them left behind, say
    assert not ran(executor, lambda: None, number=3).notes
    logging.getLogger(name).handlers.clear()


def _raise(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no message")


@pytest.mark.parametrize(
    ("error", "failure", "kind", "message"),
    [
        (ZeroDivisionError("by zero \udc80"), "error", "ZeroDivisionError", "by zero ?"),
        (SystemExit(3), "error", "SystemExit", "3"),
        (KeyboardInterrupt(), "error", "KeyboardInterrupt", ""),
        (MemoryError("no more"), "out_of_memory", "MemoryError", "no more"),
        (_Mute(), "error", "_Mute", "its message can't be had (RuntimeError)"),
        (ValueError("x" * 10**6), "error", "ValueError", "x" * OUTPUT_LIMIT),
    ],
)
def test_whatever_a_member_raises_is_its_own(
    executor: ExecutorActor, error: BaseException, failure: str, kind: str, message: str
) -> None:
    """Its neighbours before and after it are as if nothing had happened."""
    reply = ran(executor, lambda: 1, _raise(error), lambda: 3)
    note = reply.notes.pop(1)
    assert (note.failure, note.error_type, note.error) == (failure, kind, message)
    assert not reply.notes and [value and pickle.loads(value) for value in reply.values] == [1, None, 3]


def test_the_traceback_begins_in_the_task(executor: ExecutorActor) -> None:
    """The submitter sees the frames of the task and none of the executor."""

    def inner() -> None:
        raise LookupError("here")

    def outer() -> None:
        inner()

    trace = ran(executor, outer).notes[0].traceback
    assert "in outer" in trace and "in inner" in trace and "LookupError: here" in trace
    assert "in _value" not in trace


def test_a_function_that_cannot_be_loaded_fails_its_own_tasks(executor: ExecutorActor) -> None:
    """What its pickle raises is told; calls of other functions in the chunk run."""
    chunk = chunk_of(lambda: 1, lambda: 2)
    broken = chunk._replace(blobs={**chunk.blobs, chunk.functions[0]: b"no pickle"})
    reply = Reply.unpacked(executor.run(broken.packed()))
    assert "can't be loaded" in reply.notes[0].error and pickle.loads(reply.values[1] or b"") == 2


def test_a_result_that_cannot_travel_is_told(executor: ExecutorActor) -> None:
    """One that can't be pickled, and one that is larger than the limit: the message says which and what to do."""
    reply = ran(executor, lambda: (number for number in range(3)), lambda: bytes(MIB + 1))
    assert "generator, can't be pickled" in reply.notes[0].error
    assert reply.notes[1].error_type == "ResultTooLarge" and str(MIB) in reply.notes[1].error


def test_what_only_the_executor_knows_travels_by_value(executor: ExecutorActor) -> None:
    """An object whose class came with its function is pickled with its class."""

    def make() -> object:
        class Made:
            value = 7

        return Made()

    made: Any = pickle.loads(ran(executor, make).values[0] or b"")
    assert made.value == 7


def test_a_large_result_is_kept_to_be_called_for(executor: ExecutorActor) -> None:
    """It is given away once; the next run forgets what nobody called for."""
    reply = ran(executor, lambda: bytes(2 * INLINE_BYTES), lambda: 1)
    assert reply.notes[0].large and reply.values[0] is None and pickle.loads(reply.values[1] or b"") == 1
    assert executor.large(2, 0) is None, "that is another run"
    value = executor.large(1, 0)
    assert value is not None and pickle.loads(value) == bytes(2 * INLINE_BYTES)
    assert executor.large(1, 0) is None
    ran(executor, lambda: bytes(2 * INLINE_BYTES), number=2)
    ran(executor, lambda: 1, number=3)
    assert executor.large(2, 0) is None


def test_an_unknown_function_is_asked_for(executor: ExecutorActor) -> None:
    """Nothing runs before all functions are there; once sent, a function is kept."""
    chunk = chunk_of(lambda: 1, lambda: 2)
    bare = chunk._replace(blobs={})
    assert Reply.unpacked(executor.run(bare.packed())) == Reply(0, [], [], {}, missing=True)
    assert len(Reply.unpacked(executor.run(chunk.packed())).values) == 2
    assert len(Reply.unpacked(executor.run(bare._replace(number=2).packed())).values) == 2


def test_a_chunk_that_takes_too_long_stops_after_the_member_that_runs(executor: ExecutorActor) -> None:
    """A wrong estimate costs nobody more than one task's time."""
    reply = ran(executor, lambda: 1, lambda: time.sleep(0.02), lambda: 3, overrun_s=0.01)
    assert reply.begun == 2 and len(reply.values) == 2


def test_a_recall_takes_what_has_not_begun(executor: ExecutorActor) -> None:
    """While one member runs: those before it are told, those behind it never begin, and it ends in peace."""
    executor._functions["wait"] = lambda: (begun.set(), release.wait(10))[1]
    begun, release = threading.Event(), threading.Event()
    chunk = chunk_of(lambda: 1, lambda: 2, lambda: 3, lambda: 4)
    chunk = chunk._replace(functions=(chunk.functions[0], "wait", *chunk.functions[2:]))
    with running(executor, chunk) as replies:
        assert begun.wait(10)
        assert executor.ping()["state"] == "busy"
        assert executor.recall(7) is not None, "a run that is yet to come"
        recalled = Reply.unpacked(executor.recall(1) or b"")
        assert (recalled.begun, len(recalled.values)) == (2, 1) and pickle.loads(recalled.values[0] or b"") == 1
        release.set()
    assert replies["run"].begun == 2 and len(replies["run"].values) == 2
    assert executor.recall(1) is None and executor.ping() | {"pid": 0} == {
        "role": "executor-1",
        "state": "ready",
        "pid": 0,
        "done": 2,
    }


def test_a_recall_that_comes_before_its_chunk_is_obeyed(executor: ExecutorActor) -> None:
    """The two calls take different ways to the executor, so that either may come first."""
    assert Reply.unpacked(executor.recall(5) or b"").begun == 0
    assert ran(executor, lambda: 1, number=5) == Reply(0, [], [], {})
    assert ran(executor, lambda: 1, number=6).begun == 1


def test_every_member_begins_or_is_handed_back_and_never_both(executor: ExecutorActor, restless: None) -> None:
    """However a recall falls into a chunk of short tasks, the two halves make the whole."""
    executor._functions["count"] = lambda: begun.append(1)
    begun: list[int] = []
    halves = 0
    template = chunk_of(*[lambda: 1] * 100)._replace(functions=("count",), which=())
    for number in range(1, 1000):
        begun.clear()
        chunk = template._replace(number=number)
        with running(executor, chunk) as replies:
            while not begun and not executor.done:
                time.sleep(0)
            packed = executor.recall(number)
        reply = replies["run"]
        halves += packed is not None and 0 < reply.begun < 100
        executor.done = 0
        assert reply.begun == len(reply.run_s) == len(begun)
        if packed is not None:
            recalled = Reply.unpacked(packed)
            assert recalled.begun >= len(recalled.values) and recalled.begun >= len(begun) >= len(recalled.values)
            assert reply.begun == recalled.begun
        if halves == 10:
            break
    assert halves == 10, "some were recalled half-way"


def test_the_memory_of_a_task_by_itself_is_measured(executor: ExecutorActor) -> None:
    """The peak counts, not what is left at the end; a short task and a member of a chunk are not looked at."""

    def take() -> None:
        data = bytearray(64 * MIB)
        data[::4096] = b"x" * len(data[::4096])
        time.sleep(0.06)

    peak = ran(executor, take, overrun_s=None).notes[0].peak_memory_bytes
    assert peak is not None and 60 * MIB < peak < 100 * MIB
    assert not ran(executor, lambda: None, number=2, overrun_s=None).notes
    assert not ran(executor, take, lambda: None, number=3).notes


def test_the_guard_sees_a_task_that_grows(executor: ExecutorActor) -> None:
    """It answers as soon as the limit is passed; for a task that stays below it, it answers at its end."""
    executor._functions["grow"] = lambda: (data.extend(bytes(64 * MIB)), release.wait(10))[1]
    data, release = bytearray(), threading.Event()
    chunk = chunk_of(lambda: 1, overrun_s=None)._replace(functions=("grow",))
    with running(executor, chunk):
        grown = executor.guard(1, 32 * MIB)
        release.set()
    assert grown is not None and 32 * MIB < grown < 200 * MIB
    assert executor.guard(1, 32 * MIB) is None, "it is over"


@pytest.mark.parametrize(
    ("seen", "devices", "shown"),
    [("", (), ""), ("", (0, 2), "0,2"), ("4,5,6", (0, 2), "4,6"), ("GPU-a,GPU-b", (1,), "GPU-b"), ("4,5", (), "")],
)
def test_a_task_sees_its_devices_by_their_own_names(
    monkeypatch: pytest.MonkeyPatch, seen: str, devices: tuple[int, ...], shown: str
) -> None:
    """Indices count among the devices that the node itself sees; without any, none is seen."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    monkeypatch.setattr(os, "nice", lambda _by: 0)
    ExecutorActor("executor-1", devices)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == shown


def test_output_goes_behind_while_nobody_listens() -> None:
    """Between tasks the process's own stream gets what is written, and nothing is remembered."""
    import io

    behind = io.StringIO()
    output = Output(behind, 100)
    print("between", file=output, flush=True)
    assert behind.getvalue() == "between\n" and not output.parts
