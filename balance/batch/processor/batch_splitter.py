"""Cut a list of requests into batches within limits: next-fit, since the order must stay.

Next-fit packing keeps only one batch open, so requests are never reordered and no batch waits; at worst
it opens twice as many as the best packing (Johnson 1973).  A request that is larger than a limit on its
own gets a batch of its own: refusing it would lose it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Dict, List

from balance.batch.processor.batch import Limits
from balance.batch.processor.request_merger import check_requests
from balance.errors import InvalidValue
from balance.types import check_int, check_number


class BatchSplitter:
    """Split requests by count, bytes and cost; nothing is lost, doubled or reordered.

    Parameters
    ----------
    limits : Limits, optional
        How large one batch may become.
    bytes_of : callable, optional
        Bytes of a request: ``size_bytes`` or ``data_size`` where it states one, else the length of it as JSON.
    cost_of : callable, optional
        Cost of a request: its ``cost``, or 0.

    Examples
    --------
    >>> from balance.batch.processor import Limits
    >>> splitter = BatchSplitter(limits=Limits(max_items=2))
    >>> [[r["n"] for r in batch] for batch in splitter.split_large_batches([{"n": n} for n in range(5)])]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        *,
        limits: Limits | None = None,
        bytes_of: Callable[[Mapping[str, Any]], int] | None = None,
        cost_of: Callable[[Mapping[str, Any]], float] | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._bytes_of = bytes_of or stated_bytes
        self._cost_of = cost_of or stated_cost

    def split_large_batches(self, batch_data: List[Dict[str, Any]]) -> List[List[Dict[str, Any]]]:
        """Return the requests in batches, in their order; an empty list gives no batch.

        Parameters
        ----------
        batch_data : list of dict
            The requests.

        Returns
        -------
        list of list of dict
            The very same dicts; each batch is within the limits or holds a single request.

        Raises
        ------
        InvalidValue
            If `batch_data` is not a list of dicts, or a stated size or cost is not a number of 0 or more.
        """
        check_requests(batch_data)
        return [batch_data[start:stop] for start, stop, _, _ in self.cuts(batch_data)]

    def cuts(
        self, requests: List[Dict[str, Any]], limits: Limits | None = None
    ) -> Iterator[tuple[int, int, int, float]]:
        """Yield ``(start, stop, bytes, cost)`` of each batch.  O(n).

        Parameters
        ----------
        requests : list of dict
            The requests.
        limits : Limits, optional
            Other limits for this call only.
        """
        limits = limits or self._limits
        start, held_bytes, held_cost = 0, 0, 0.0
        for index, request in enumerate(requests):
            size, cost = self._bytes_of(request), self._cost_of(request)
            full = (
                index - start >= limits.max_items
                or held_bytes + size > limits.max_bytes
                or held_cost + cost > limits.max_cost
            )
            if full and index > start:
                yield start, index, held_bytes, held_cost
                start, held_bytes, held_cost = index, 0, 0.0
            held_bytes, held_cost = held_bytes + size, held_cost + cost
        if start < len(requests):
            yield start, len(requests), held_bytes, held_cost


def stated_bytes(request: Mapping[str, Any]) -> int:
    """Return the bytes that a request states, or else its length as JSON (other values by their text).

    Examples
    --------
    >>> stated_bytes({"size_bytes": 10}), stated_bytes({"q": "é"})
    (10, 11)
    """
    for field in ("size_bytes", "data_size"):
        if request.get(field) is not None:
            return check_int(field, request[field], minimum=0)
    try:
        text = json.dumps(request, ensure_ascii=False, default=str, skipkeys=True)
    except (ValueError, RecursionError) as error:
        raise InvalidValue("request", type(request).__name__, f"content that can be written down ({error})") from None
    return len(text.encode("utf-8", "surrogatepass"))


def stated_cost(request: Mapping[str, Any]) -> float:
    """Return the ``cost`` that a request states, or 0."""
    return check_number("cost", request.get("cost", 0.0), minimum=0)
