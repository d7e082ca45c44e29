"""Processing: everybody gets their own answer, and one failure is nobody else's."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from balance.batch.processor import BatchProcessor, BatchSplitter, Limits
from balance.clock import FakeClock
from balance.errors import Conflict, InvalidValue


def requests(*texts, model="m"):
    return [{"request_id": f"r{n}", "model_id": model, "text": text} for n, text in enumerate(texts)]


def upper(batch):
    return [request["text"].upper() for request in batch.requests]


class Recorder:
    """A runner that remembers what it ran and raises on poison."""

    def __init__(self, poison=()):
        self.poison = set(poison)
        self.ran = []

    def __call__(self, batch):
        texts = [request["text"] for request in batch.requests]
        self.ran.append(texts)
        if self.poison & set(texts):
            raise ValueError(f"can't do {texts}")
        return [text.upper() for text in texts]


def test_answers_come_in_the_order_of_the_input():
    """Each request gets the answer to its own content, wherever it ran."""
    report = BatchProcessor(runner=upper, clock=FakeClock()).process_batch(requests("b", "a", "B", "c"))
    assert [answer["result"] for answer in report["results"]] == ["B", "A", "B", "C"]
    assert [answer["request_id"] for answer in report["results"]] == ["r0", "r1", "r2", "r3"]
    assert {key: report[key] for key in report if key != "results"} == {
        "status": "completed",
        "priority": 1,
        "received": 4,
        "executed": 3,
        "merged": 1,
        "batches": 1,
        "completed": 4,
        "failed": 0,
        "duration_s": 0.0,
        "error": None,
    }


def test_poison_request_fails_alone():
    """A batch that raises is halved until the poison stands alone; its mates are answered."""
    runner = Recorder(poison={"p"})
    report = BatchProcessor(runner=runner).process_batch(requests(*"abcpefgh"))
    assert report["status"] == "partial"
    assert [a["request_id"] for a in report["results"] if a["status"] == "failed"] == ["r3"]
    assert report["results"][3]["error"]["error"] == "ValueError"
    assert len(runner.ran) == 7


def test_a_runner_that_always_fails_is_not_asked_for_ever():
    """A failure of everything costs a bounded number of runs."""
    runner = Recorder(poison={str(n) for n in range(500)})
    processor = BatchProcessor(runner=runner, splitter=BatchSplitter(limits=Limits(max_items=500)))
    report = processor.process_batch(requests(*map(str, range(500))))
    assert report["status"] == "failed"
    assert report["failed"] == 500
    assert len(runner.ran) <= 32


@pytest.mark.parametrize("results", [[], ["only one"], ["a", "b", "c"], "ab", None, {"a": 1, "b": 2}])
def test_results_that_can_not_be_assigned_fail(results):
    """With too few or too many results nobody knows whose they are: no one gets another's answer."""
    report = BatchProcessor(runner=lambda batch: results).process_batch(requests("a", "b"))
    assert {a["status"] for a in report["results"]} <= {"failed", "completed"}
    assert report["status"] == "failed" if results != ["only one"] else report["failed"] == 0


def test_fan_out_refuses_what_it_can_not_assign():
    """Called on its own, it says how many results it got and how many it needs."""
    processor = BatchProcessor()
    (batch,) = processor.plan(requests("a", "b"))
    for wrong in (["A"], ["A", "B", "C"], "AB", None):
        with pytest.raises(InvalidValue, match="results"):
            processor.fan_out(batch, wrong)
    assert [outcome.result for outcome in processor.fan_out(batch, ["A", "B"])] == ["A", "B"]


def test_values_that_mean_failure():
    """An exception or a failed dict among the results fails that request alone."""
    mixed = [ValueError("no"), {"status": "failed", "error": "gone"}, {"status": "failed"}, 1]
    report = BatchProcessor(runner=lambda batch: mixed).process_batch(requests(*"abcd"))
    assert [a["status"] for a in report["results"]] == ["failed", "failed", "completed", "completed"]
    assert [a["error"] and a["error"]["message"] for a in report["results"]] == ["no", "gone", None, None]


def test_without_a_handler_a_request_fails_and_says_so():
    """Nothing is made up for a request that nobody answers; those with a handler are answered."""
    processor = BatchProcessor()
    processor.register_handler("m", lambda request: request["text"] * 2)
    own = {"handler": lambda request: "own", "text": "x"}
    report = processor.process_batch([*requests("a"), *requests("b", model="other"), own, {"text": "none"}])
    assert [a["result"] for a in report["results"]] == ["aa", None, "own", None]
    assert "no handler is registered for model 'other'" in report["results"][1]["error"]["message"]
    assert "names no model_id" in report["results"][3]["error"]["message"]


def test_a_handler_that_exits_takes_nobody_down():
    """SystemExit in a handler is a failed request."""
    processor = BatchProcessor()
    processor.register_handler("m", lambda request: sys.exit(3) if request["text"] == "x" else "ok")
    report = processor.process_batch(requests("a", "x"))
    assert [a["status"] for a in report["results"]] == ["completed", "failed"]


def test_register_handler_beside_a_runner_conflicts():
    """A handler that would never be called is refused."""
    with pytest.raises(Conflict):
        BatchProcessor(runner=upper).register_handler("m", str)


def test_plan_is_by_model_and_urgency():
    """One model a batch; the most urgent batch first, and within a model the most urgent requests first."""
    processor = BatchProcessor(splitter=BatchSplitter(limits=Limits(max_items=2)))
    given = [
        {"id": "1", "model_id": "a", "q": 1, "priority": 5},
        {"id": "2", "model_id": "b", "q": 2, "priority": 3},
        {"id": "3", "model_id": "a", "q": 3, "priority": "critical"},
        {"id": "4", "model_id": "a", "q": 4},
        {"id": "5", "model_id": "a", "q": 1, "priority": 4},
    ]
    batches = processor.plan(given, priority=2)
    assert [(b.model_id, b.priority, [r["q"] for r in b.requests]) for b in batches] == [
        ("a", 1, [3, 4]),
        ("b", 3, [2]),
        ("a", 4, [1]),
    ]
    assert [m.request_id for m in batches[2].members[0]] == ["1", "5"]
    assert [b.batch_id for b in processor.plan(given, priority=2)] == [b.batch_id for b in batches]
    assert len({b.batch_id for b in batches}) == 3


def test_limits_by_model():
    """The size calculator's word for one model holds for that model."""
    batches = BatchProcessor().plan(requests(*"abcd"), limits={"m": Limits(max_items=3)})
    assert [len(b.requests) for b in batches] == [3, 1]


@pytest.mark.parametrize(("data", "priority"), [("x", 1), ([1], 1), ([], 0), ([{"priority": "urgent"}], 1)])
def test_callers_mistakes_raise_before_anything_runs(data, priority):
    """A malformed call runs nothing."""
    runner = Recorder()
    with pytest.raises(InvalidValue):
        BatchProcessor(runner=runner).process_batch(data, priority)
    assert runner.ran == []


def test_queue_is_served_and_every_item_is_answered():
    """Lists, dicts with a reply and malformed items are all answered; join() returns then."""

    async def scenario():
        queue: asyncio.Queue = asyncio.Queue()
        reply = asyncio.get_running_loop().create_future()
        reports = []
        processor = BatchProcessor(runner=upper, on_report=reports.append)
        server = asyncio.create_task(processor.handle_incoming_batches(queue))
        await queue.put(requests("a"))
        await queue.put("nonsense")
        await queue.put({"requests": requests("b"), "priority": 2, "reply": reply})
        await queue.join()
        server.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server
        return reports, reply.result(), processor.recent_reports()

    reports, replied, recent = asyncio.run(scenario())
    assert [report["status"] for report in reports] == ["completed", "rejected", "completed"]
    assert reports[1]["error"]["error"] == "InvalidValue"
    assert replied["priority"] == 2
    assert recent == reports


def test_cancelled_in_the_middle_the_item_is_finished():
    """Cancelling while a batch runs lets that one finish and leaves the others in the queue."""
    entered, go = threading.Event(), threading.Event()

    def slow(batch):
        entered.set()
        go.wait(10)
        return upper(batch)

    async def scenario():
        queue: asyncio.Queue = asyncio.Queue()
        processor = BatchProcessor(runner=slow)
        server = asyncio.create_task(processor.handle_incoming_batches(queue))
        queue.put_nowait(requests("a"))
        queue.put_nowait(requests("b"))
        await asyncio.to_thread(entered.wait, 10)
        server.cancel()
        asyncio.get_running_loop().call_soon(go.set)
        with pytest.raises(asyncio.CancelledError):
            await server
        return processor.recent_reports(), queue.qsize()

    reports, left = asyncio.run(scenario())
    assert [a["result"] for report in reports for a in report["results"]] == ["A"]
    assert left == 1
