"""The report of a run, for a person: one HTML page that needs nothing else, and the same as JSON.

`write_report` and the summaries take a *history*: one plain dict, every part of which may be missing.

==================  ==========================================================================================
part                what it holds
==================  ==========================================================================================
``title``           what ran, for the heading; ``started_at`` ISO 8601; ``duration_s``; ``command``
``conservation``    ``accepted, completed, failed, dead_lettered, in_flight`` (counts), ``holds`` (bool)
``models``          list, a dict per model: ``model_id, priority, objective_s, accepted, completed, failed,
                    dead_lettered, in_flight, executed`` (runs after merging), ``latency_s: {p50, p95, p99}``
``demand``          ``{model_id: {t_s, actual_per_s, forecast_t_s, q10_per_s, q50_per_s, q90_per_s}}``: lists;
                    ``forecast_t_s`` are the moments that were forecast (``t_s`` when left out)
``queue``           ``{t_s: [...], by_priority: {"1": [...], ...}}``: requests that wait
``start_latency``   ``{"1": {count, p50_s, p99_s}, ...}``: from accepted to started, by priority
``usage``           ``t_s``, ``cpu_capacity_cores``, ``cpu_reserved_cores``, ``cpu_measured_cores``,
                    ``memory_capacity_bytes``, ``memory_reserved_bytes``, ``memory_measured_bytes``: lists but
                    for the two capacities
``actions``         list of what the balancer did: ``t_s, action, subject, reason``
``data``            list, a dict per kind of source: ``source, requested, fetched, size_bytes``
``errors``          list: ``t_s, where, message, count``
``environment``     any names and values: versions, cores, memory
==================  ==========================================================================================

Times are seconds since the start of the run.  A number may be None or NaN: there is no point then.

Examples
--------
>>> print(summary_lines({"conservation": {"accepted": 3, "completed": 2, "failed": 1, "holds": True}})[0])
3 accepted = 2 completed + 1 failed + 0 dead-lettered + 0 in flight: nothing lost
"""

from __future__ import annotations

from actors.report.page import write_report
from actors.report.summary import summary, summary_lines

__all__ = ["summary", "summary_lines", "write_report"]
