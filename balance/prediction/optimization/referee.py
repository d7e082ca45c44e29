"""What was forecast against what came, series by series, and what is to be forecast with from now on.

`AccuracyMonitor` scores, `ModelOptimizer` decides; this keeps the two together for forecasts that are made all the
time.  A series has two candidates, the combination of methods and the simple one (seasonal naive, or naive); while
the combination is demoted it is still made and scored, so that it can be taken back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from balance.prediction.optimization.accuracy_monitor import AccuracyMonitor
from balance.prediction.optimization.model_optimizer import ModelOptimizer
from balance.types import check_id, check_int

#: How the combination is called among the methods that are scored.
COMBINATION = "combination"


class Referee:
    """Scores forecasts when their truth has come, and says what to use next.

    Parameters
    ----------
    window : int, default 240
        Steps a series over which is judged.
    max_series : int, default 2000
        Series that are followed.

    Examples
    --------
    >>> referee = Referee()
    >>> steady, wild = [10.0] * 24, [90.0] * 24
    >>> for _ in range(2):
    ...     verdict = referee.judge("whisper", {"point": wild, "method": "theta+ets"}, steady, [10.0, 11.0])
    >>> verdict["action"], referee.plain("whisper")
    ('demote', True)
    """

    def __init__(self, *, window: int = 240, max_series: int = 2000) -> None:
        self._max_series = check_int("max_series", max_series, minimum=1)
        self.monitor = AccuracyMonitor(window=window, max_models=max_series)
        self.optimizer = ModelOptimizer(max_models=max_series)
        self._plain: set[str] = set()
        self._reports: dict[str, dict[str, Any]] = {}
        self._refit: set[str] = set()

    def judge(
        self, series: str, made: Mapping[str, Any], actual: Sequence[float], history: Sequence[float]
    ) -> dict[str, Any]:
        """Score one forecast, and decide.

        Parameters
        ----------
        series : str
            Which.
        made : mapping
            The forecast as it was used: ``point``, ``method``, optionally ``quantiles``, ``seasons``, and
            ``rivals``: by name, what was forecast beside it for the same steps.
        actual : sequence of float
            What came.
        history : sequence of float
            What was known when the forecast was made.

        Returns
        -------
        dict
            `ModelOptimizer.optimize_model`'s verdict.
        """
        rivals = dict(made.get("rivals") or {})
        method = str(made.get("method") or "naive") if COMBINATION in rivals else COMBINATION
        report = self.monitor.monitor_accuracy(
            check_id("series", series),
            {"values": list(actual), "history": list(history)},
            {**made, "method": method, "methods": rivals},
        )
        verdict = self.optimizer.optimize_model(series, report)
        if verdict["action"] in {"demote", "take_back"}:
            (self._plain.add if COMBINATION in verdict["demoted"] else self._plain.discard)(series)
        if verdict["action"] in {"refit", "take_back"}:
            self._refit.add(series)
        self._reports[series] = {
            name: report[name] for name in ("status", "mae", "mase", "coverage", "bias", "drift", "total_scored")
        } | {"used": "simple" if self.plain(series) else COMBINATION, "reason": verdict["reason"]}
        while len(self._reports) > self._max_series:
            gone = next(iter(self._reports))
            del self._reports[gone]
            self._plain.discard(gone)
        return verdict

    def plain(self, series: str) -> bool:
        """Say whether the simple method is to be used for a series."""
        return series in self._plain

    def refits(self) -> set[str]:
        """Return the series that are to be learnt anew, each once."""
        due, self._refit = self._refit, set()
        return due

    def reports(self) -> dict[str, dict[str, Any]]:
        """Return by series how its forecasts have done of late.

        Returns
        -------
        dict
            ``status``, ``mae``, ``mase``, ``coverage``, ``bias``, ``drift``, ``total_scored`` as
            `AccuracyMonitor.monitor_accuracy` returns them; ``used``: ``combination`` or ``simple``, with the
            ``reason``.
        """
        return dict(self._reports)

    def snapshot(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {
            "monitor": self.monitor.snapshot(),
            "optimizer": self.optimizer.snapshot(),
            "plain": sorted(self._plain),
            "reports": self._reports,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `snapshot` returned."""
        self.monitor.restore(state["monitor"])
        self.optimizer.restore(state["optimizer"])
        self._plain = set(state["plain"])
        self._reports = dict(state["reports"])
