"""Who gets the data: how evenly bytes are spread over the models.

The Gini coefficient is 0 where every model gets the same and (n - 1) / n where one of n gets all of it
(C. Gini, "Variabilità e mutabilità", 1912; here by the sorted-rank formula).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, List

import numpy as np

from balance.types import check_id, check_int, check_number

DEFAULT_THRESHOLD = 1.5


@dataclass(frozen=True, slots=True)
class Distribution:
    """How bytes are spread; see `DistributionAnalyzer.analyze_distribution` for the fields."""

    status: str
    model_count: int
    total_bytes: int
    mean_bytes: float
    bytes_by_model: Dict[str, int]
    share_by_model: Dict[str, float]
    gini: float
    coefficient_of_variation: float
    max_mean_ratio: float
    over_served: List[str]
    starved: List[str]

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


class DistributionAnalyzer:
    """Add up the bytes that each model used and tell how even that is.

    Examples
    --------
    >>> analyzer = DistributionAnalyzer()
    >>> for model, size in [("a", 100), ("b", 100), ("c", 1000)]:
    ...     analyzer.log_data_usage(model, size)
    >>> analyzer.detect_imbalance(2.0)
    ['a', 'b', 'c']
    >>> round(analyzer.analyze_distribution()["gini"], 3)
    0.5
    """

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}

    def log_data_usage(self, model_id: str, data_size: int) -> None:
        """Record that `model_id` used `data_size` more bytes; 0 makes a model known that got nothing yet."""
        check_id("model_id", model_id)
        size = check_int("data_size", data_size, minimum=0)
        self._bytes[model_id] = self._bytes.get(model_id, 0) + size

    def analyze_distribution(self) -> Dict[str, Any]:
        """Describe how the bytes are spread over the models.

        Returns
        -------
        dict
            ``status``: ``ok`` or ``no_usage`` (no model is known, or none used a byte);
            ``model_count``, ``total_bytes``, ``mean_bytes`` (per model);
            ``bytes_by_model``, ``share_by_model`` (0 to 1): largest first, then by id;
            ``gini``: 0 (even) to (n - 1) / n (one has all);
            ``coefficient_of_variation``: population standard deviation over mean;
            ``max_mean_ratio``: the largest over the mean;
            ``over_served``, ``starved``: ids above 1.5 times the mean, below the mean / 1.5, each sorted.
            Ratios are 0 where there is no usage.
        """
        order = sorted(self._bytes, key=lambda model: (-self._bytes[model], model))
        values = np.array([self._bytes[model] for model in order], dtype=float)
        total = sum(self._bytes.values())
        mean = total / len(order) if order else 0.0
        over, under = self._outside(DEFAULT_THRESHOLD)
        return Distribution(
            status="ok" if total else "no_usage",
            model_count=len(order),
            total_bytes=total,
            mean_bytes=mean,
            bytes_by_model={model: self._bytes[model] for model in order},
            share_by_model={model: self._bytes[model] / total if total else 0.0 for model in order},
            gini=_gini(values) if total else 0.0,
            coefficient_of_variation=float(values.std() / mean) if total else 0.0,
            max_mean_ratio=float(values.max() / mean) if total else 0.0,
            over_served=over,
            starved=under,
        ).to_dict()

    def detect_imbalance(self, threshold: float = 1.5) -> List[str]:
        """Return the ids, sorted, of models above `threshold` times the mean or below the mean / `threshold`.

        Raises
        ------
        InvalidValue
            A threshold below 1 (every model would be on both sides of it), NaN or infinite.
        """
        over, under = self._outside(check_number("threshold", threshold, minimum=1))
        return sorted([*over, *under])

    def _outside(self, threshold: float) -> tuple[list[str], list[str]]:
        total = sum(self._bytes.values())
        if not total:
            return [], []
        mean = total / len(self._bytes)
        over = sorted(model for model, size in self._bytes.items() if size > threshold * mean)
        under = sorted(model for model, size in self._bytes.items() if size < mean / threshold)
        return over, under


def _gini(descending: np.ndarray) -> float:
    """Return the Gini coefficient of values sorted from large to small, their sum above 0."""
    n = len(descending)
    ranks = np.arange(n, 0, -1)
    return float(2 * (ranks * descending).sum() / (n * descending.sum()) - (n + 1) / n)
