"""What a requester is told at once; the answer itself comes on the results topic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A request that was taken.

    Attributes
    ----------
    status : str
        ``sent``, or ``duplicate``: this request id was sent before, and nothing was sent now.
    request_id : str
        The answer carries it.
    timestamp : str
        When it was taken, ISO 8601.
    model_id, data_type, source_type : str
        As asked for.
    response_topic : str
        Where the answer comes.
    estimated_time : float
        Seconds until then, probably.
    """

    status: str
    request_id: str
    timestamp: str
    model_id: str
    data_type: str
    source_type: str
    response_topic: str
    estimated_time: float

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as JSON values."""
        return {
            "status": self.status,
            "request_id": self.request_id,
            "timestamp": self.timestamp,
            "model_id": self.model_id,
            "data_type": self.data_type,
            "source_type": self.source_type,
            "response_topic": self.response_topic,
            "estimated_time": self.estimated_time,
        }
