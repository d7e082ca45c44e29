"""The port to a system that watches figures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Dict


class MetricsInterface(ABC):
    """Reports figures and collects those that there are.

    Examples
    --------
    >>> class Board(MetricsInterface):
    ...     def __init__(self):
    ...         self._figures = {}
    ...     def collect_metrics(self):
    ...         return dict(self._figures)
    ...     def report_metrics(self, metrics_data):
    ...         self._figures.update(metrics_data)
    >>> board = Board()
    >>> board.report_metrics({"queued": 3})
    >>> board.collect_metrics()
    {'queued': 3}
    """

    @abstractmethod
    def collect_metrics(self) -> Dict[str, Any]:
        """Return the figures that there are now, by name."""

    @abstractmethod
    def report_metrics(self, metrics_data: Dict[str, Any]) -> None:
        """Report figures by name; one that makes no sense raises, and none is reported then."""
