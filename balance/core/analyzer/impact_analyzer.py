"""What Balance's decisions did to each model: performance, resources, quality.

Means can hide an effect, since +50 % and -50 % cancel out, so the mean *size* of each effect is kept
beside the mean and is what the thresholds look at.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, List

from balance.types import check_id, check_int, check_number


@dataclass(frozen=True, slots=True)
class ModelImpact:
    """The effect on one model; see `ImpactAnalyzer.analyze_impact` for the fields."""

    decisions: int
    performance_change_percent: float
    performance_size_percent: float
    resource_usage: float
    resource_usage_max: int
    quality_shift: float
    quality_shift_size: float

    def to_dict(self) -> Dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(slots=True)
class _Sums:
    decisions: int = 0
    performance: float = 0.0
    performance_size: float = 0.0
    resources: int = 0
    resources_max: int = 0
    quality: float = 0.0
    quality_size: float = 0.0

    def impact(self) -> ModelImpact:
        n = self.decisions
        return ModelImpact(
            decisions=n,
            performance_change_percent=self.performance / n,
            performance_size_percent=self.performance_size / n,
            resource_usage=self.resources / n,
            resource_usage_max=self.resources_max,
            quality_shift=self.quality / n,
            quality_shift_size=self.quality_size / n,
        )


class ImpactAnalyzer:
    """Keep the effect of decisions per model and tell which models they move most.

    Examples
    --------
    >>> analyzer = ImpactAnalyzer()
    >>> analyzer.log_impact("whisper", performance_change=50.0, resource_usage=200, quality_shift=0.0)
    >>> analyzer.log_impact("whisper", performance_change=-50.0, resource_usage=200, quality_shift=0.0)
    >>> analyzer.detect_high_impact_models()
    ['whisper']
    """

    def __init__(self) -> None:
        self._models: dict[str, _Sums] = {}

    def log_impact(self, model_id: str, performance_change: float, resource_usage: int, quality_shift: float) -> None:
        """Record what one decision did to `model_id`.

        Parameters
        ----------
        model_id : str
            The model.
        performance_change : float
            Percent; above 0 is faster.
        resource_usage : int
            What the decision cost, in the caller's unit (the same unit as the threshold), 0 or more.
        quality_shift : float
            Change of a quality score, -1 to 1; above 0 is better.

        Raises
        ------
        InvalidValue
            NaN or infinite values, a negative usage, a shift outside -1 to 1.
        """
        check_id("model_id", model_id)
        performance = check_number("performance_change", performance_change, what="percentage")
        resources = check_int("resource_usage", resource_usage, minimum=0)
        quality = check_number("quality_shift", quality_shift, minimum=-1, maximum=1)
        sums = self._models.setdefault(model_id, _Sums())
        sums.decisions += 1
        sums.performance += performance
        sums.performance_size += abs(performance)
        sums.resources += resources
        sums.resources_max = max(sums.resources_max, resources)
        sums.quality += quality
        sums.quality_size += abs(quality)

    def analyze_impact(self) -> Dict[str, Any]:
        """Describe the effect on every model.

        Returns
        -------
        dict
            ``status``: ``ok`` or ``no_decisions``;
            ``decisions``: how many were logged;
            ``models``: by model id, sorted: ``decisions``,
            ``performance_change_percent`` (mean) and ``performance_size_percent`` (mean of absolute values),
            ``resource_usage`` (mean) and ``resource_usage_max`` (caller's unit),
            ``quality_shift`` (mean, -1 to 1) and ``quality_shift_size`` (mean of absolute values).
        """
        models = {model: self._models[model].impact().to_dict() for model in sorted(self._models)}
        decisions = sum(sums.decisions for sums in self._models.values())
        return {"status": "ok" if decisions else "no_decisions", "decisions": decisions, "models": models}

    def detect_high_impact_models(
        self, performance_threshold: float = 5.0, resource_threshold: int = 1000, quality_threshold: float = 0.2
    ) -> List[str]:
        """Return the ids, sorted, of models whose mean effect is larger than any one of the thresholds.

        Parameters
        ----------
        performance_threshold : float, default 5.0
            Percent, compared with the mean absolute change.
        resource_threshold : int, default 1000
            Compared with the mean usage of a decision.
        quality_threshold : float, default 0.2
            Compared with the mean absolute shift.
        """
        performance_limit = check_number("performance_threshold", performance_threshold, minimum=0)
        resource_limit = check_number("resource_threshold", resource_threshold, minimum=0)
        quality_limit = check_number("quality_threshold", quality_threshold, minimum=0)
        impacts = {model: sums.impact() for model, sums in self._models.items()}
        return sorted(
            model
            for model, impact in impacts.items()
            if impact.performance_size_percent > performance_limit
            or impact.resource_usage > resource_limit
            or impact.quality_shift_size > quality_limit
        )
