"""What is remembered of one model's forecasts: the last steps that were scored, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Dict

import numpy as np

from balance.timeseries.drift import DriftDetector
from balance.timeseries.series import Array

#: Methods that are followed at once; the one scored longest ago is forgotten first.
MOST_METHODS = 32


class Scored:
    """The last steps of one model, each with what came and what was forecast.

    Parameters
    ----------
    window : int
        How many steps are kept.

    Examples
    --------
    >>> scored = Scored(window=3)
    >>> for at in range(5):
    ...     scored.add(float(at), 0.0, {0.9: 9.0})
    >>> scored.truth.tolist(), scored.total
    ([2.0, 3.0, 4.0], 5)
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._steps: deque[tuple[float, float, Dict[float, float]]] = deque(maxlen=window)
        #: By method, absolute errors of it and of the simple rival on the same steps.
        self._methods: Dict[str, deque[tuple[float, float]]] = {}
        #: What came, for the rival and the scale; the last `window` and a season of at most as many.
        self.past: deque[float] = deque(maxlen=2 * window)
        self.past_until = -np.inf
        self.drift = DriftDetector()
        self.total = 0

    def add(self, truth: float, point: float, quantiles: Dict[float, float]) -> None:
        """Remember one step."""
        self._steps.append((truth, point, quantiles))
        self.total += 1

    def add_method(self, name: str, miss: float, simple: float) -> None:
        """Remember one step of a method: its absolute error and the simple rival's."""
        errors = self._methods.pop(name, None)
        self._methods[name] = errors if errors is not None else deque(maxlen=self._window)
        self._methods[name].append((miss, simple))
        while len(self._methods) > MOST_METHODS:
            del self._methods[next(iter(self._methods))]

    @property
    def truth(self) -> Array:
        """What came, oldest first."""
        return np.array([truth for truth, _, _ in self._steps])

    @property
    def point(self) -> Array:
        """What was forecast."""
        return np.array([point for _, point, _ in self._steps])

    def quantiles(self) -> tuple[Array, Dict[float, Array]]:
        """Return what came at the steps that have the newest step's quantile levels, and those quantiles."""
        levels = set(self._steps[-1][2]) if self._steps else set()
        rows = [(truth, made) for truth, _, made in self._steps if levels and set(made) == levels]
        return np.array([truth for truth, _ in rows]), {
            level: np.array([made[level] for _, made in rows]) for level in levels
        }

    def methods(self) -> Dict[str, tuple[Array, Array]]:
        """Return each method's absolute errors and those of the rival on the same steps, by name."""
        return {
            name: (np.array([miss for miss, _ in errors]), np.array([simple for _, simple in errors]))
            for name, errors in sorted(self._methods.items())
        }

    def snapshot(self) -> Dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "steps": [
                [truth, point, {f"{level:g}": value for level, value in made.items()}]
                for truth, point, made in self._steps
            ],
            "methods": {name: [list(pair) for pair in errors] for name, errors in self._methods.items()},
            "past": list(self.past),
            "past_until": self.past_until if np.isfinite(self.past_until) else None,
            "drift": self.drift.snapshot(),
            "total": self.total,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take everything back to what `snapshot` returned."""
        self._steps.clear()
        for truth, point, made in state["steps"]:
            self._steps.append((truth, point, {float(level): value for level, value in made.items()}))
        self._methods = {
            name: deque(((miss, simple) for miss, simple in errors), maxlen=self._window)
            for name, errors in state["methods"].items()
        }
        self.past = deque(state["past"], maxlen=2 * self._window)
        self.past_until = -np.inf if state["past_until"] is None else state["past_until"]
        self.drift = DriftDetector.restored(state["drift"])
        self.total = int(state["total"])
