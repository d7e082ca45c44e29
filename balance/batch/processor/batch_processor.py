"""Merge, split, run, fan out: one list of requests becomes one answer for each of them.

`plan` and `fan_out` are pure; the batches actor uses them around executions that happen elsewhere.
`process_batch` puts a runner between the two and contains failures: a batch that raises is halved until
the poison request stands alone (the bisection of group testing, Dorfman 1943; about 2 log2 n more runs
for one poison request), so requests must be safe to run again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Dict, List

from balance.batch.processor.batch import Batch, Limits, Member, Outcome
from balance.batch.processor.batch_splitter import BatchSplitter
from balance.batch.processor.handlers import Handler, Handlers, Runner, error_dict
from balance.batch.processor.report import BatchReport
from balance.batch.processor.request_merger import RequestMerger, check_requests, priority_rank
from balance.defaults import default
from balance.errors import Conflict, InvalidValue
from balance.types import check_priority

if TYPE_CHECKING:
    import asyncio

    from balance.clock import Clock

#: How many runs one failed batch may cost before what is left of it fails as a whole.
MAX_RUNS = 32


class BatchProcessor:
    """Answer a list of requests with as few executions as possible.

    Parameters
    ----------
    runner : callable, optional
        Takes a `Batch`, returns one result for each of its requests; an exception in that list fails the
        request alone, an exception raised fails the batch (then it is halved).  When left out, the
        handlers of `register_handler` run in this process.
    merger, splitter : optional
        `RequestMerger` and `BatchSplitter`.
    clock : Clock, optional
        For ``duration_s``.
    offload : callable, optional
        ``await offload(work, deliver)`` runs ``work()`` off the event loop and hands its result to
        ``deliver``, even when it is cancelled meanwhile.
    on_report : callable, optional
        Gets each report of `handle_incoming_batches` (a dict as `process_batch` returns it).

    Examples
    --------
    >>> processor = BatchProcessor()
    >>> processor.register_handler("upper", lambda request: request["text"].upper())
    >>> report = processor.process_batch([{"model_id": "upper", "text": t} for t in ("a", "b", "A")])
    >>> report["status"], report["received"], report["executed"], [r["result"] for r in report["results"]]
    ('completed', 3, 2, ['A', 'B', 'A'])
    """

    def __init__(
        self,
        *,
        runner: Runner | None = None,
        merger: RequestMerger | None = None,
        splitter: BatchSplitter | None = None,
        clock: Clock | None = None,
        offload: Callable[..., Any] | None = None,
        on_report: Callable[[Dict[str, Any]], None] | None = None,
    ) -> None:
        self._runner: Runner = runner or Handlers()
        self._merger = merger or RequestMerger()
        self._splitter = splitter or BatchSplitter()
        self._clock = clock or default("clock")
        self._offload = offload
        self._on_report = on_report
        self._recent: deque[Dict[str, Any]] = deque(maxlen=64)

    def register_handler(self, model_id: str, handler: Handler) -> None:
        """Let `handler(request)` answer the requests of `model_id` in this process.

        Raises
        ------
        Conflict
            If the processor was built with a runner of its own.
        """
        if not isinstance(self._runner, Handlers):
            raise Conflict("this processor has a runner of its own; a handler would never be called", model_id=model_id)
        self._runner.register(model_id, handler)

    def process_batch(self, batch_data: List[Dict[str, Any]], priority: int = 1) -> Dict[str, Any]:
        """Answer every request and return the answers in the order of the input.

        Parameters
        ----------
        batch_data : list of dict
            The requests; ``model_id`` names the model, ``priority`` its own urgency.
        priority : int, default 1
            For the requests that state none: 1 CRITICAL ... 5 BACKGROUND.

        Returns
        -------
        dict
            ``status`` (``completed``: all; ``partial``: some; ``failed``: none; ``empty``: nothing came),
            ``priority``, ``received`` (requests), ``executed`` (distinct ones), ``merged`` (the difference),
            ``batches``, ``completed``, ``failed``, ``duration_s``, ``error`` (None here) and ``results``:
            for each request a dict as `Outcome.to_dict` documents it.

        Raises
        ------
        InvalidValue
            If `batch_data` is not a list of dicts or a priority is none; nothing has run then.
        """
        began = self._clock.now()
        batches = self.plan(batch_data, priority)
        answers = [answer for batch in batches for answer in self._run(batch)]
        answers.sort(key=lambda answer: answer.index)
        executed = sum(len(batch.requests) for batch in batches)
        report = BatchReport.of(answers, executed, len(batches), priority, self._clock.now() - began)
        return report.to_dict()

    def plan(
        self, batch: List[Dict[str, Any]], priority: int = 1, limits: Mapping[str, Limits] | None = None
    ) -> List[Batch]:
        """Return the batches to run, the most urgent first.  Pure; O(n log n).

        Equal requests are merged; each model's requests stand by priority, then in the order of their
        first appearance, and are cut within the limits.

        Parameters
        ----------
        batch : list of dict
            The requests.
        priority : int, default 1
            For the requests that state none.
        limits : mapping of str to Limits, optional
            Limits by ``model_id``, instead of the splitter's.

        Returns
        -------
        list of Batch
            Every request is a member of exactly one of them.
        """
        check_priority(priority)
        check_requests(batch)
        by_model: dict[str, list[tuple[int, str, list[int]]]] = {}
        for key, indices in self._merger.groups(batch).items():
            rank = min(priority_rank(batch[index].get("priority") or priority) for index in indices)
            by_model.setdefault(_model_of(batch[indices[0]]), []).append((rank, key, indices))
        made = [
            one
            for model_id, groups in by_model.items()
            for one in self._batches(batch, model_id, groups, (limits or {}).get(model_id))
        ]
        made.sort(key=lambda one: (one.priority, one.members[0][0].index))
        return made

    def _batches(
        self,
        requests: List[Dict[str, Any]],
        model_id: str,
        groups: list[tuple[int, str, list[int]]],
        limits: Limits | None,
    ) -> Iterator[Batch]:
        groups.sort(key=lambda group: (group[0], group[2][0]))
        # Sizes are those of the first of each kind: the ids that a merged one carries are not its content.
        firsts = [requests[indices[0]] for _, _, indices in groups]
        for start, stop, size_bytes, cost in self._splitter.cuts(firsts, limits):
            held = groups[start:stop]
            members = tuple(tuple(_member(requests[index], index) for index in indices) for _, _, indices in held)
            yield Batch(
                _batch_id(model_id, [key for _, key, _ in held], members),
                model_id,
                held[0][0],
                tuple(self._merger.combine(requests[index] for index in indices) for _, _, indices in held),
                members,
                size_bytes,
                cost,
            )

    def fan_out(self, batch: Batch, results: Sequence[Any]) -> List[Outcome]:
        """Return the answer of every original request in `batch`.  Pure; O(members).

        Parameters
        ----------
        batch : Batch
            What ran.
        results : sequence
            One for each of its requests: any value, or for a failure an exception or a dict with
            ``status: failed`` and an ``error``.

        Raises
        ------
        InvalidValue
            If there are more or fewer results than requests: then nobody knows whose they are.
        """
        if isinstance(results, str | bytes | Mapping) or not isinstance(results, Sequence):
            raise InvalidValue("results", results, "a sequence with one result for each request")
        if len(results) != len(batch.requests):
            raise InvalidValue("results", f"{len(results)} of them", f"{len(batch.requests)}: one for each request")
        answers: List[Outcome] = []
        for group, result in zip(batch.members, results, strict=True):
            error = _error_of(result)
            answers += [
                Outcome(
                    index=member.index,
                    request_id=member.request_id,
                    response_topic=member.response_topic,
                    status="failed" if error else "completed",
                    result=None if error else result,
                    error=error,
                    batch_id=batch.batch_id,
                    merged_with=len(group),
                )
                for member in group
            ]
        return answers

    async def handle_incoming_batches(self, batch_queue: asyncio.Queue) -> None:  # type: ignore[type-arg]  # the contract's text
        """Serve a queue until cancelled; an item that was taken is finished before the cancellation goes through.

        An item is a list of requests, or a dict with ``requests`` (list), ``priority`` (int, optional) and
        ``reply`` (an asyncio future that gets the report, optional).  An item that is neither, or whose
        requests are malformed, is answered with ``status: rejected`` and the ``error``.  Reports go to the
        future, to `on_report`, and to `recent_reports`.  ``task_done`` is called for each item, so that
        ``await batch_queue.join()`` means: all answered.

        Parameters
        ----------
        batch_queue : asyncio.Queue
            Any of asyncio's queues.
        """
        offload = self._offload or default("offload")
        while True:
            item = await batch_queue.get()

            def deliver(report: Dict[str, Any], item: Any = item) -> None:
                try:
                    self._deliver(item, report)
                finally:
                    batch_queue.task_done()

            def work(item: Any = item) -> Dict[str, Any]:
                return self._serve(item)

            await offload(work, deliver)

    def recent_reports(self) -> List[Dict[str, Any]]:
        """Return the reports of the last 64 items served, the oldest first."""
        return list(self._recent)

    def _serve(self, item: Any) -> Dict[str, Any]:
        try:
            if isinstance(item, Mapping):
                return self.process_batch(item.get("requests"), item.get("priority", 1))  # type: ignore[arg-type]  # checked there
            return self.process_batch(item)
        except Exception as error:  # noqa: BLE001 (one bad item must not end the service)
            return BatchReport.rejected(error_dict(error)).to_dict()

    def _deliver(self, item: Any, report: Dict[str, Any]) -> None:
        self._recent.append(report)
        reply = item.get("reply") if isinstance(item, Mapping) else None
        if reply is not None and not reply.done():
            reply.set_result(report)
        if self._on_report is not None:
            self._on_report(report)

    def _run(self, batch: Batch) -> List[Outcome]:
        """Run `batch`, in halves where it raises, and return everybody's answer."""
        answers: List[Outcome] = []
        waiting, runs = [batch], 0
        while waiting:
            part = waiting.pop()
            runs += 1
            try:
                answers += self.fan_out(part, self._runner(part))
            except (Exception, SystemExit) as error:  # noqa: BLE001 (whatever a runner raises is its batch's failure)
                items = len(part.requests)
                if items == 1 or runs + len(waiting) + 2 > MAX_RUNS:
                    answers += self.fan_out(part, [error] * items)
                else:
                    waiting += [part.part(items // 2, items), part.part(0, items // 2)]
        return answers


def _model_of(request: Mapping[str, Any]) -> str:
    given = request.get("model_id")
    return "" if given is None else str(given)


def _member(request: Mapping[str, Any], index: int) -> Member:
    given = request.get("request_id", request.get("id"))
    topic = request.get("response_topic")
    return Member(index, None if given is None else str(given), None if topic is None else str(topic))


def _batch_id(model_id: str, keys: list[str], members: tuple[tuple[Member, ...], ...]) -> str:
    digest = blake2b(model_id.encode("utf-8", "surrogatepass"), digest_size=10)
    for key, group in zip(keys, members, strict=True):
        ids = "\0".join(member.request_id or f"#{member.index}" for member in group)
        digest.update(f"\1{key}\0{ids}".encode("utf-8", "surrogatepass"))
    return f"batch-{digest.hexdigest()}"


def _error_of(result: Any) -> Dict[str, Any] | None:
    if isinstance(result, BaseException):
        return error_dict(result)
    if isinstance(result, Mapping) and result.get("status") == "failed" and result.get("error"):
        given = result["error"]
        return dict(given) if isinstance(given, Mapping) else {"error": "Failed", "message": str(given)}
    return None
