"""What every demand predictor returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Optional

from balance.timeseries.forecast import Forecast


@dataclass(frozen=True, slots=True)
class DemandForecast:
    """A forecast of one quantity of one model.

    Attributes
    ----------
    model_id : str
        The model, or ``all``.
    forecast : Forecast
        The numbers.
    step_s : float, optional
        Seconds a step; None where the records carried no time, so that a step is a record.
    unit : str
        Of `point` and `quantiles`.
    extra : dict
        What only one predictor says.
    """

    model_id: str
    forecast: Forecast
    step_s: Optional[float]
    unit: str
    extra: Dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> Dict[str, Any]:
        """Return JSON values.

        Returns
        -------
        dict
            ``model_id``; ``status``: ``ok`` or ``insufficient_data``;
            ``horizon_steps``; ``step_s``: seconds a step, or None; ``horizon_s``: their product, or None;
            ``unit``: of what follows;
            ``point``: list, one value a step; ``quantiles``: lists by level, ``"0.1"``, ``"0.5"``, ``"0.9"``;
            ``method``, ``reason``, ``weights`` (share of each method), ``seasons`` (steps), ``notes``;
            ``backtest``: ``mae`` (in `unit`), ``mase``, ``origins``; and what the predictor adds.
        """
        steps = len(self.forecast.point)
        return {
            "model_id": self.model_id,
            "horizon_steps": steps,
            "step_s": self.step_s,
            "horizon_s": None if self.step_s is None else self.step_s * steps,
            "unit": self.unit,
            **self.forecast.to_dict(),
            **self.extra,
        }
