"""How long what the balancer asks for takes until it is there, as measured: replicas of each model, nodes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any

KEPT = 20
"""Of how many starts it is remembered how long they took."""


def p90_s(seconds: Iterable[float]) -> float | None:
    """Return the smallest of some durations that nine tenths of them do not exceed; None of none.

    Examples
    --------
    >>> p90_s([3.0, 1.0, 2.0]), p90_s([])
    (3.0, None)
    """
    ordered = sorted(seconds)
    return ordered[ceil(0.9 * len(ordered)) - 1] if ordered else None


class Starts:
    """The starts that were seen, and what follows for the next ones.

    Examples
    --------
    >>> starts = Starts()
    >>> starts.look(0.0, cores=2.0)
    >>> starts.asked(10.0, cores=4.0)
    >>> starts.look(14.0, cores=4.0)
    >>> starts.node_s
    4.0
    """

    def __init__(self) -> None:
        self._models: dict[str, float] = {}
        self._nodes: deque[float] = deque(maxlen=KEPT)
        #: What was asked for and is not there yet: how many cores the cluster is to have, since when.
        self._awaited: list[tuple[float, float]] = []
        self._cores = 0.0

    @property
    def node_s(self) -> float:
        """Seconds from asking for a node until it is there, at the 0.9 quantile; 0 before the first one came."""
        return p90_s(self._nodes) or 0.0

    def asked(self, at: float, cores: float) -> None:
        """Note that the cluster is to have so many cores; larger wishes of before are taken back."""
        self._awaited = [wish for wish in self._awaited if wish[0] <= cores]
        if cores > max([self._cores, *(wish[0] for wish in self._awaited)]):
            self._awaited.append((cores, at))

    def look(self, at: float, cores: float) -> None:
        """Look how many cores the cluster has: nodes that were asked for may have come.

        The cluster may never become as large as was wished; then each node that comes answers the smallest wish.
        """
        met = [since for wanted, since in self._awaited if wanted <= cores]
        if not met and cores > self._cores:
            met = [since for _, since in self._awaited[:1]]
        self._nodes.extend(at - since for since in met)
        self._awaited = [wish for wish in self._awaited if wish[0] > cores]
        self._cores = cores

    def replica_s(self, model_id: str, seen: Iterable[float], usual_s: float | None) -> float:
        """Return how long a replica of a model takes to start, at the 0.9 quantile of those that were `seen`.

        Where none was lately, what was last known; where nothing is known, the start of any executor (`usual_s`).
        """
        measured = p90_s(seen)
        if measured is not None:
            self._models[model_id] = measured
        return self._models.get(model_id, usual_s or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return what is to be remembered: ``models`` (seconds by id) and ``nodes`` (seconds)."""
        return {"models": dict(self._models), "nodes": list(self._nodes)}

    @classmethod
    def from_dict(cls, known: Mapping[str, Any]) -> Starts:
        """Go on with what was remembered."""
        made = cls()
        made._models = {name: float(seconds) for name, seconds in known.get("models", {}).items()}
        made._nodes.extend(float(seconds) for seconds in known.get("nodes", ()))
        return made
