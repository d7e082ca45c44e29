"""Figures among Ray's own: in its dashboard, and where Prometheus scrapes Ray."""

from __future__ import annotations

from typing import Any, Dict

import ray
from ray.util.metrics import Counter, Gauge

from balance.adapters.external.figures import Figure, Figures
from balance.interfaces.external import MetricsInterface


class RayMetrics(MetricsInterface):
    """Reports through `ray.util.metrics`; outside of Ray's processes figures are kept and go nowhere.

    Ray's metrics can be written and not read, so `collect_metrics` returns what this object reported, and what Ray says
    of its cluster.

    Parameters
    ----------
    prefix : str, default "balance_"
        Before every name, as Ray's own begin with ``ray_``.

    Examples
    --------
    >>> metrics = RayMetrics()
    >>> metrics.report_metrics({"demo_queued": {"value": 3, "tags": {"model": "whisper"}}})
    >>> metrics.collect_metrics()["demo_queued"]
    [{'value': 3.0, 'kind': 'gauge', 'tags': {'model': 'whisper'}}]
    """

    def __init__(self, *, prefix: str = "balance_") -> None:
        self._prefix = prefix
        self._figures = Figures()
        self._made: dict[str, Any] = {}

    def collect_metrics(self) -> Dict[str, Any]:
        """Return by name a list of ``{value, kind, tags}``.

        Returns
        -------
        dict
            What was reported; connected to Ray also ``ray_cluster_total`` and ``ray_cluster_available``, with the tag
            ``resource`` (cores, devices and bytes, as Ray counts them).
        """
        found: dict[str, Any] = self._figures.to_dict()
        if ray.is_initialized():
            for name, amounts in (("total", ray.cluster_resources()), ("available", ray.available_resources())):
                found[f"ray_cluster_{name}"] = [
                    {"value": float(amount), "kind": "gauge", "tags": {"resource": resource}}
                    for resource, amount in sorted(amounts.items())
                ]
        return found

    def report_metrics(self, metrics_data: Dict[str, Any]) -> None:
        """Report figures: by name a number, or ``{value, kind, tags, description}``, or a list of those.

        Raises
        ------
        InvalidValue, Conflict
            One of them makes no sense; none is reported then (see `Figures.report`).
        """
        for figure in self._figures.report(metrics_data):
            instrument, tags = self._instrument(figure), dict(figure.tags)
            if figure.kind == "gauge":
                instrument.set(figure.value, tags=tags)
            elif figure.value > 0:  # Ray's counters take no zero
                instrument.inc(figure.value, tags=tags)

    def _instrument(self, figure: Figure) -> Any:
        if figure.name not in self._made:
            kind = Gauge if figure.kind == "gauge" else Counter
            name = self._prefix + figure.name
            self._made[figure.name] = kind(name, figure.description or figure.name, tag_keys=figure.tag_keys)
        return self._made[figure.name]
