"""Is the machine itself behaving as it did a moment ago?  Scores its live metrics, strictly causally."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from actors.demo.models.base import DemoModel
from balance.types import Priority, Resources, check_id, check_number

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

#: So many readings are needed before a score says anything.
MIN_POINTS = 24
ALARM = 1.0


class AnomalyModel(DemoModel):
    """Scores the last `window_s` seconds of one host metric.

    Examples
    --------
    >>> calm = [50.0 + (t * 7 % 5) for t in range(80)]
    >>> data = {"host/cpu_percent": {"values": [*calm, 400.0], "step_s": 0.25, "unit": "%"}}
    >>> [result] = AnomalyModel().run([{"metric": "cpu_percent", "window_s": 60}], data)
    >>> result["verdict"], result["alarms"]
    ('anomalous', 1)
    """

    model_id = "anomaly"
    demand = Resources.demand(cpu=0.25, memory=128 * 2**20)
    priority = Priority.CRITICAL
    objective_s = 0.5

    def needs(self, request: Mapping[str, Any]) -> list[str]:
        """Return ``["host/<metric>"]``."""
        return [f"host/{check_id('metric', request.get('metric'))}"]

    def answer(self, request: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
        """Score the window.  Cost: about a millisecond.

        Returns
        -------
        dict
            ``metric``, ``unit``, ``points`` (readings scored), ``verdict`` (``normal`` | ``anomalous`` |
            ``warming_up`` while there are fewer than 24 readings), ``score`` of the latest reading and
            ``score_max`` (1 and above is an alarm), ``alarms`` (readings that raised one), ``latest`` (the
            reading in its unit, or None).
        """
        import numpy as np  # noqa: PLC0415 (importing the package stays cheap)

        window_s = check_number("window_s", request.get("window_s"), minimum=1.0, what="number of seconds")
        payload = data[self.needs(request)[0]]
        keep = max(MIN_POINTS, int(window_s / payload["step_s"]))
        values = np.asarray(payload["values"], dtype=float)[-keep:]
        scores = causal_scores(values)
        alarms = int(np.count_nonzero(scores >= ALARM))
        verdict = "warming_up" if len(values) < MIN_POINTS else "anomalous" if alarms else "normal"
        return {
            "metric": request["metric"],
            "unit": payload["unit"],
            "points": len(values),
            "verdict": verdict,
            "score": round(float(scores[-1]), 4) if len(scores) else 0.0,
            "score_max": round(float(scores.max()), 4) if len(scores) else 0.0,
            "alarms": alarms,
            "latest": float(values[-1]) if len(values) else None,
        }


def causal_scores(values: npt.NDArray[np.float64], memory: int = 60) -> npt.NDArray[np.float64]:
    """Score each reading against those before it: robust z over `memory` readings, 8 deviations make 1.

    Deviations are counted in 1.4826 times the median absolute deviation (Iglewicz and Hoaglin, 1993), with
    a floor of 2 % of the level, so that a metric that stood still does not alarm at its first flicker.  The
    score of a reading never changes when later ones arrive.

    Returns
    -------
    array of shape (n, )
        0 for the first 24 readings.
    """
    import numpy as np  # noqa: PLC0415

    scores = np.zeros(len(values))
    for at in range(MIN_POINTS - 1, len(values)):
        past = values[max(0, at - memory) : at]
        level = float(np.median(past))
        spread = max(1.4826 * float(np.median(np.abs(past - level))), 0.02 * abs(level), 1e-9)
        scores[at] = abs(float(values[at]) - level) / spread / 8.0
    return scores
