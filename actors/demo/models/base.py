"""What every model of the demo offers: what it demands, what data a request needs, how it runs.

A model has no state of its own, so it pickles as a reference to its class and one instance serves any
number of processes.  What is dear to build (an index) lives in a `ProcessCache`, once per process.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from balance.errors import BalanceError, SourceUnavailable
from balance.types import Resources


class DemoModel(abc.ABC):
    """One model: a name, a demand, and a function from requests and data to results.

    Attributes
    ----------
    model_id : str
        Its name.
    demand : Resources
        What one running replica is entitled to: cores and bytes.
    priority : int
        1 CRITICAL ... 5 BACKGROUND; requests may carry another one.
    objective_s : float
        The latency from request to answer, in seconds, that its users expect.
    """

    model_id: ClassVar[str]
    demand: ClassVar[Resources]
    priority: ClassVar[int]
    objective_s: ClassVar[float]

    @abc.abstractmethod
    def needs(self, request: Mapping[str, Any]) -> list[str]:
        """Return the ids of the data that `request` needs; `InvalidValue` for a request that makes no sense."""

    @abc.abstractmethod
    def answer(self, request: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
        """Compute one answer as JSON values, or raise."""

    def run(self, requests: Sequence[Mapping[str, Any]], data: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Answer `requests` in their order; the failure of one is its own result and no neighbour's.

        Parameters
        ----------
        requests : sequence of mapping
            The requests of one batch.
        data : mapping of str to payload
            What `needs` named for any of them.

        Returns
        -------
        list of dict
            One per request: ``status`` (``ok`` with the model's own keys | ``failed`` with ``error``, the
            class of what was raised, and ``message``).
        """
        return [self._contained(request, data) for request in requests]

    def _contained(self, request: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
        try:
            missing = [name for name in self.needs(request) if name not in data]
            if missing:
                raise SourceUnavailable(f"the data {missing[0]!r} did not come with the request", data_id=missing[0])
            return {"status": "ok", **self.answer(request, data)}
        except BalanceError as error:
            return {"status": "failed", "error": error.code, "message": str(error)}
        except Exception as error:
            return {"status": "failed", "error": type(error).__name__, "message": str(error)[:500]}
