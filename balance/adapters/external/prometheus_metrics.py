"""Figures in Prometheus' text format: scraped from a URL, and written for whoever scrapes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Dict

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from balance.adapters.external.figures import Figures
from balance.adapters.sources.http import HttpSource
from balance.config import Settings
from balance.defaults import default
from balance.errors import SourceUnavailable
from balance.interfaces.external import MetricsInterface

if TYPE_CHECKING:
    from balance.clock import Clock

MAX_BYTES = 32 * 2**20


class PrometheusMetrics(MetricsInterface, Collector):
    """Collects from an exporter, and keeps figures of its own for one.

    Parameters
    ----------
    url : str, optional
        Of an exporter, such as Ray's ``http://NODE:8080/metrics``; where left out, `collect_metrics` returns what was
        reported here.
    allow_private : bool, optional
        Whether the URL may lie on loopback or a private network; as the settings say where left out.
    timeout_s : float, default 10
        For a scrape.
    clock : Clock, optional

    Examples
    --------
    >>> metrics = PrometheusMetrics()
    >>> metrics.report_metrics({"answers": {"value": 2, "kind": "counter", "tags": {"model": "whisper"}}})
    >>> print(metrics.exposition())
    # HELP answers_total answers
    # TYPE answers_total counter
    answers_total{model="whisper"} 2.0
    <BLANKLINE>
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        allow_private: bool | None = None,
        timeout_s: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        self._url = url
        is_allowed = Settings.from_env().allow_private_urls if allow_private is None else allow_private
        self._source = HttpSource(clock=clock or default("clock"), allow_private=is_allowed, timeout_s=timeout_s)
        if url is not None:
            self._source.check(url)
        self._figures = Figures()

    def collect_metrics(self) -> Dict[str, Any]:
        """Scrape the URL, or return what was reported here.

        Returns
        -------
        dict
            By name of the sample a list of ``{value, kind, tags}``; ``kind`` is the family's (``gauge``, ``counter``,
            ``histogram``, ``summary``, ``unknown``, ...), ``value`` is None where the exporter says NaN or infinite.

        Raises
        ------
        SourceUnavailable
            The exporter did not answer, or not in the text format.
        AccessRefused
            It lies on a private network, or says more than 32 MiB.
        """
        if self._url is None:
            return self._figures.to_dict()
        found: dict[str, Any] = {}
        text = self._source.read(self._url, MAX_BYTES).decode("utf-8", "replace")
        try:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    value = sample.value if math.isfinite(sample.value) else None
                    found.setdefault(sample.name, []).append(
                        {"value": value, "kind": family.type, "tags": dict(sample.labels)}
                    )
        except Exception as error:  # the parser raises whatever its string operations do
            said = f"{type(error).__name__}: {error}"
            raise SourceUnavailable(f"{self._url} is not in Prometheus' text format ({said})", url=self._url) from error
        return found

    def report_metrics(self, metrics_data: Dict[str, Any]) -> None:
        """Report figures: by name a number, or ``{value, kind, tags, description}``, or a list of those.

        Raises
        ------
        InvalidValue, Conflict
            One of them makes no sense; none is reported then (see `Figures.report`).
        """
        self._figures.report(metrics_data)

    def exposition(self) -> str:
        """Return what was reported in Prometheus' text format (version 0.0.4), to be served or written to a file."""
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry).decode()

    def collect(self) -> Iterator[Metric]:
        """Give what was reported as ``prometheus_client`` wants it: register this object at a registry of yours."""
        for first, standing in self._figures.series():
            kind = GaugeMetricFamily if first.kind == "gauge" else CounterMetricFamily
            family = kind(first.name, first.description or first.name, labels=first.tag_keys)
            for figure in standing:
                family.add_metric([text for _, text in figure.tags], figure.value)
            yield family
