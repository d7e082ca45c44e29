"""How good the data is that each model got: invalid records and noise.

A model is only called bad when the *lower* end of the Wilson score interval of its invalid ratio lies
above the threshold: three invalid records of ten say little, three hundred of a thousand say a lot
(E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Dict, List

from balance.errors import InvalidValue
from balance.types import check_id, check_int, check_number

#: The standard normal quantile of a two-sided 95 % interval.
Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class ModelQuality:
    """The quality of one model's data; see `QualityAnalyzer.analyze_quality` for the fields."""

    total_records: int
    valid_records: int
    invalid_records: int
    invalid_ratio: float
    invalid_ratio_low: float
    invalid_ratio_high: float
    noise: float

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(slots=True)
class _Totals:
    total: int = 0
    invalid: int = 0
    noise_times_records: float = 0.0

    def quality(self) -> ModelQuality:
        low, high = wilson_interval(self.invalid, self.total)
        return ModelQuality(
            total_records=self.total,
            valid_records=self.total - self.invalid,
            invalid_records=self.invalid,
            invalid_ratio=self.invalid / self.total if self.total else 0.0,
            invalid_ratio_low=low,
            invalid_ratio_high=high,
            noise=self.noise_times_records / self.total if self.total else 0.0,
        )


class QualityAnalyzer:
    """Keep per-model totals of valid and invalid records and their noise, weighted by records.

    Examples
    --------
    >>> analyzer = QualityAnalyzer()
    >>> analyzer.log_data_quality("small", total_records=10, invalid_records=2, noise_level=0.1)
    >>> analyzer.log_data_quality("large", total_records=1000, invalid_records=200, noise_level=0.1)
    >>> analyzer.detect_low_quality_models(invalid_threshold=0.1)
    ['large']
    """

    def __init__(self) -> None:
        self._models: dict[str, _Totals] = {}

    def log_data_quality(self, model_id: str, total_records: int, invalid_records: int, noise_level: float) -> None:
        """Record the quality of `total_records` more records of `model_id`.

        Parameters
        ----------
        model_id : str
            The model that the records went to.
        total_records, invalid_records : int
            How many there were, and how many of them failed validation.
        noise_level : float
            0 (clean) to 1 (nothing but noise), for these records.

        Raises
        ------
        InvalidValue
            A negative count, more invalid records than records, a noise level outside 0 to 1.
        """
        check_id("model_id", model_id)
        total = check_int("total_records", total_records, minimum=0)
        invalid = check_int("invalid_records", invalid_records, minimum=0)
        if invalid > total:
            raise InvalidValue("invalid_records", invalid_records, f"at most total_records ({total})")
        noise = check_number("noise_level", noise_level, minimum=0, maximum=1)
        totals = self._models.setdefault(model_id, _Totals())
        totals.total += total
        totals.invalid += invalid
        totals.noise_times_records += noise * total

    def analyze_quality(self) -> Dict[str, Any]:
        """Describe the quality of every model's data, and of all of it.

        Returns
        -------
        dict
            ``status``: ``ok`` or ``no_records``;
            ``total_records``, ``valid_records``, ``invalid_records``, ``invalid_ratio`` (0 to 1),
            ``invalid_ratio_low``, ``invalid_ratio_high`` (95 % Wilson interval; 0 and 1 without records),
            ``noise`` (mean by records, 0 to 1): of all models together;
            ``models``: the same seven by model id, sorted by id.
        """
        overall = _Totals(
            sum(totals.total for totals in self._models.values()),
            sum(totals.invalid for totals in self._models.values()),
            math.fsum(totals.noise_times_records for totals in self._models.values()),
        )
        return {
            "status": "ok" if overall.total else "no_records",
            **overall.quality().to_dict(),
            "models": {model: self._models[model].quality().to_dict() for model in sorted(self._models)},
        }

    def detect_low_quality_models(self, invalid_threshold: float = 0.1, noise_threshold: float = 0.5) -> List[str]:
        """Return the ids, sorted, of models whose data is surely too invalid, or too noisy on average.

        Parameters
        ----------
        invalid_threshold : float, default 0.1
            Listed where the lower end of the invalid ratio's 95 % interval lies above this.
        noise_threshold : float, default 0.5
            Listed where the mean noise lies above this.
        """
        invalid_limit = check_number("invalid_threshold", invalid_threshold, minimum=0, maximum=1)
        noise_limit = check_number("noise_threshold", noise_threshold, minimum=0, maximum=1)
        quality = {model: totals.quality() for model, totals in self._models.items()}
        return sorted(
            model for model, q in quality.items() if q.invalid_ratio_low > invalid_limit or q.noise > noise_limit
        )


def wilson_interval(hits: int, total: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of the ratio `hits` / `total`; (0, 1) where `total` is 0.

    Examples
    --------
    >>> low, high = wilson_interval(3, 10)
    >>> round(low, 3), round(high, 3)
    (0.108, 0.603)
    """
    if not total:
        return 0.0, 1.0
    ratio = hits / total
    shrink = 1 + z * z / total
    centre = (ratio + z * z / (2 * total)) / shrink
    half = z * math.sqrt(ratio * (1 - ratio) / total + z * z / (4 * total * total)) / shrink
    # At 0 and at 1 the interval touches the end exactly; rounding must not push it across.
    return (0.0 if hits == 0 else max(0.0, centre - half)), (1.0 if hits == total else min(1.0, centre + half))
