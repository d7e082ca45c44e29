"""What passes between merging, splitting, running and answering: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from balance.types import check_number


@dataclass(frozen=True, slots=True)
class Limits:
    """How large one batch may become.

    Attributes
    ----------
    max_items : int
        Requests.
    max_bytes : int
        Bytes of all requests together (see `BatchSplitter`).
    max_cost : float
        Sum of the requests' ``cost``, in the unit that the caller gives it (seconds, tokens).

    Examples
    --------
    >>> Limits(max_items=2).to_dict()
    {'max_items': 2, 'max_bytes': 16777216, 'max_cost': None}
    """

    max_items: int = 64
    max_bytes: int = 16 * 2**20
    max_cost: float = float("inf")

    def __post_init__(self) -> None:
        check_number("max_items", self.max_items, minimum=1)
        check_number("max_bytes", self.max_bytes, minimum=1)
        if self.max_cost != float("inf"):
            check_number("max_cost", self.max_cost, minimum=0)

    def to_dict(self) -> dict[str, Any]:
        """Return ``max_items``, ``max_bytes``, ``max_cost`` (None: no limit)."""
        cost = None if self.max_cost == float("inf") else self.max_cost
        return {"max_items": self.max_items, "max_bytes": self.max_bytes, "max_cost": cost}


@dataclass(frozen=True, slots=True)
class Member:
    """One original request inside a merged one: where its answer goes.

    Attributes
    ----------
    index : int
        Its position in the list that was planned.
    request_id : str or None
        Its own id.
    response_topic : str or None
        Where it awaits the answer.
    """

    index: int
    request_id: str | None = None
    response_topic: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What runs together: distinct requests for one model, and whom each of them stands for.

    Attributes
    ----------
    batch_id : str
        Stable: the same requests planned again give the same id.
    model_id : str
        The model that runs it; empty when the requests name none.
    priority : int
        The most urgent of its requests.
    requests : tuple of dict
        The merged requests, in the order of first appearance.
    members : tuple of tuple of Member
        For each request, the originals.
    size_bytes : int
        Bytes of its requests.
    cost : float
        Sum of their costs.
    """

    batch_id: str
    model_id: str
    priority: int
    requests: tuple[Mapping[str, Any], ...]
    members: tuple[tuple[Member, ...], ...]
    size_bytes: int
    cost: float

    @property
    def count(self) -> int:
        """How many original requests it answers."""
        return sum(len(group) for group in self.members)

    def part(self, start: int, stop: int) -> Batch:
        """Return the requests from `start` up to `stop` as a batch of their own."""
        share = (stop - start) / len(self.requests)
        return Batch(
            f"{self.batch_id}[{start}:{stop}]",
            self.model_id,
            self.priority,
            self.requests[start:stop],
            self.members[start:stop],
            int(self.size_bytes * share),
            self.cost * share,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return ``batch_id``, ``model_id``, ``priority``, ``items``, ``count``, ``size_bytes``, ``cost``."""
        return {
            "batch_id": self.batch_id,
            "model_id": self.model_id,
            "priority": self.priority,
            "items": len(self.requests),
            "count": self.count,
            "size_bytes": self.size_bytes,
            "cost": self.cost,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to one original request.

    Examples
    --------
    >>> Outcome(0, "a", None, "completed", {"score": 0.5}, None, "batch-1", 2).to_dict()["result"]
    {'score': 0.5}
    """

    index: int
    request_id: str | None
    response_topic: str | None
    status: str
    result: Any
    error: Mapping[str, Any] | None
    batch_id: str
    merged_with: int

    def to_dict(self) -> dict[str, Any]:
        """Return the answer.

        Returns
        -------
        dict
            ``index`` (position in the input), ``request_id``, ``response_topic``, ``status`` (``completed`` or
            ``failed``), ``result`` (None when failed), ``error`` (dict with ``error`` and ``message``, or None),
            ``batch_id``, ``merged_with`` (how many requests shared this execution, itself included).
        """
        return {
            "index": self.index,
            "request_id": self.request_id,
            "response_topic": self.response_topic,
            "status": self.status,
            "result": self.result,
            "error": dict(self.error) if self.error is not None else None,
            "batch_id": self.batch_id,
            "merged_with": self.merged_with,
        }
