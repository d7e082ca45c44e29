"""The figures of the report.  Each returns inline SVG, or None where the history has no data for it."""

from __future__ import annotations

import math
from typing import Any

from actors.report.figures import GRID, INK, MUTED, PRIORITY, SERIES, drawing, legend_above
from actors.report.history import count, line, number, part, rows
from actors.report.wording import percent, priority, seconds, short

_TIME = "time since the start (s)"
MAX_ROWS = 12


def demand(history: dict[str, Any], model_id: str, order: int) -> str | None:
    """Draw what was asked of a model against what was forecast, with the 10 to 90 % band."""
    row = part(history, "demand", model_id)
    t_s, actual = line(row, "t_s", "actual_per_s")
    ahead = "forecast_t_s" if isinstance(row.get("forecast_t_s"), list) else "t_s"
    middle_t, middle = line(row, ahead, "q50_per_s")
    low_t, low = line(row, ahead, "q10_per_s")
    high_t, high = line(row, ahead, "q90_per_s")
    if not t_s:
        return None
    colour = SERIES[order % len(SERIES)]
    what = f"Demand of {short(model_id)} against its forecast, in requests a second"
    with drawing(f"demand{order}", what, width=4.3) as canvas:
        axes = canvas.axes
        axes.fill_between(t_s, actual, step="mid", color=colour, alpha=0.22, linewidth=0)
        axes.step(t_s, actual, where="mid", color=colour, label="asked for")
        if low_t and low_t == high_t:
            axes.fill_between(low_t, low, high, color=INK, alpha=0.13, linewidth=0, label="10 to 90 %")
        if middle_t:
            axes.plot(middle_t, middle, color=INK, linestyle=(0, (4, 2)), linewidth=1.4, label="forecast")
        _from_zero(axes, [*actual, *high], "requests per second")
        legend_above(axes)
    return canvas.svg


def queue(history: dict[str, Any]) -> str | None:
    """Draw how many requests waited, stacked by priority, the most urgent at the bottom."""
    waiting = part(history, "queue", "by_priority")
    t_s = part(history, "queue").get("t_s")
    lines = {level: line({"t_s": t_s, "n": waiting[level]}, "t_s", "n") for level in sorted(waiting, key=_level)}
    lines = {level: found for level, found in lines.items() if found[0]}
    lines = dict(list(lines.items())[:MAX_ROWS])
    if not lines:
        return None
    shortest = min(len(found[0]) for found in lines.values())
    times = next(iter(lines.values()))[0][:shortest]
    with drawing("queue", "Requests waiting over time, by priority", height=2.9) as canvas:
        below = [0.0] * shortest
        for level, (_, values) in lines.items():
            above = [base + (0.0 if math.isnan(value) else value) for base, value in zip(below, values, strict=False)]
            canvas.axes.fill_between(
                times, below, above, step="mid", color=_priority_colour(level), linewidth=0, label=_named(level)
            )
            below = above
        _from_zero(canvas.axes, below, "requests waiting")
        legend_above(canvas.axes, columns=5)
    return canvas.svg


def start_latency(history: dict[str, Any]) -> str | None:
    """Draw from the median to the 99th percentile of how long requests of each priority waited to start."""
    found = part(history, "start_latency")
    levels = [
        (level, middle, late)
        for level in sorted(found, key=_level)
        if (middle := number(part(found, level), "p50_s")) is not None
        and (late := number(part(found, level), "p99_s")) is not None
    ][:MAX_ROWS]
    if not levels:
        return None
    # Below a tenth of a millisecond nobody cares, and a logarithm has no place for 0.
    floor = 1e-4
    with drawing("latency", "Start latency by priority, median and 99th percentile", height=2.9) as canvas:
        axes = canvas.axes
        axes.set_xscale("log")
        for place, (level, middle, late) in enumerate(levels):
            colour, start, end = _priority_colour(level), max(middle, floor), max(late, floor)
            axes.plot([start, end], [place, place], color=colour, linewidth=5, alpha=0.35, solid_capstyle="round")
            axes.plot([start], [place], marker="o", color=colour, markersize=8, linestyle="none")
            axes.plot([end], [place], marker="|", color=colour, markersize=15, markeredgewidth=3, linestyle="none")
            axes.annotate(
                f"{seconds(middle)} · {seconds(late)}", (end, place), (9, 0), textcoords="offset points",
                va="center", fontsize=9.5, color=INK,
            )  # fmt: skip
        axes.set_yticks(range(len(levels)), [_named(level) for level, _, _ in levels])
        axes.set_ylim(len(levels) - 0.4, -0.6)
        low = min(max(middle, floor) for _, middle, _ in levels)
        axes.set_xlim(low / 2, max(max(late, floor) for _, _, late in levels) * 12)
        axes.xaxis.set_major_formatter(lambda value, _: seconds(value))
        axes.xaxis.set_minor_formatter(lambda *_: "")
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("from accepted to started: ● median, ❘ 99th percentile")
    return canvas.svg


def usage(history: dict[str, Any], what: str) -> str | None:
    """Draw what was reserved and what was measured of ``cpu`` (cores) or ``memory`` (GiB)."""
    unit, factor, shown = ("cores", 1.0, "cores busy") if what == "cpu" else ("bytes", 2.0**-30, "GiB")
    found = part(history, "usage")
    colour = SERIES[0] if what == "cpu" else SERIES[2]
    measured_t, measured = line(found, "t_s", f"{what}_measured_{unit}")
    reserved_t, reserved = line(found, "t_s", f"{what}_reserved_{unit}")
    capacity = number(found, f"{what}_capacity_{unit}")
    if not measured_t and not reserved_t:
        return None
    measured, reserved = [v * factor for v in measured], [v * factor for v in reserved]
    with drawing(what, f"Use of {what}, reserved against measured, in {shown}") as canvas:
        axes = canvas.axes
        if measured_t:
            axes.fill_between(measured_t, measured, color=colour, alpha=0.22, linewidth=0)
            axes.plot(measured_t, measured, color=colour, label="measured")
        if reserved_t:
            axes.step(reserved_t, reserved, where="post", color=SERIES[1], linestyle=(0, (5, 1.5)), label="reserved")
        if capacity is not None:
            axes.axhline(capacity * factor, color=MUTED, linewidth=1.2, linestyle=":", label="capacity")
        _from_zero(axes, [*measured, *reserved, (capacity or 0.0) * factor], shown)
        legend_above(axes)
    return canvas.svg


def merging(history: dict[str, Any]) -> str | None:
    """Draw accepted requests against the runs that answered them, per model."""
    pairs = [(short(row.get("model_id", "?"), 18), count(row, "accepted"), count(row, "executed"))
             for row in rows(history, "models") if number(row, "executed") is not None]  # fmt: skip
    return _pairs("merging", "Requests accepted against runs executed, per model", pairs, ("accepted", "executed"), 0)


def data(history: dict[str, Any]) -> str | None:
    """Draw how often data was asked for against how often its source was read."""
    pairs = [(short(row.get("source", "?"), 18), count(row, "requested"), count(row, "fetched"))
             for row in rows(history, "data")]  # fmt: skip
    title = "Data requested against data fetched, per source"
    return _pairs("data", title, pairs, ("requested", "fetched from the source"), 2)


def actions(history: dict[str, Any]) -> str | None:
    """Draw when the balancer did what: a row per kind of action."""
    moments: dict[str, list[float]] = {}
    for row in rows(history, "actions"):
        at = number(row, "t_s")
        if at is not None:
            moments.setdefault(short(row.get("action", "?"), 18), []).append(at)
    if not moments:
        return None
    kinds = sorted(moments, key=lambda kind: (moments[kind][0], kind))[:MAX_ROWS]
    with drawing("actions", "When the balancer acted, by kind", height=0.8 + 0.3 * len(kinds), width=11.4) as canvas:
        axes = canvas.axes
        for place, kind in enumerate(kinds):
            axes.plot(
                moments[kind], [place] * len(moments[kind]), linestyle="none", marker="o", markersize=7,
                color=SERIES[place % len(SERIES)], alpha=0.75, markeredgewidth=0,
            )  # fmt: skip
        axes.set_yticks(range(len(kinds)), [f"{kind} ({len(moments[kind])})" for kind in kinds])
        axes.set_ylim(len(kinds) - 0.4, -0.6)
        axes.set_xlabel(_TIME)
        axes.set_xlim(0, max(max(times) for times in moments.values()) * 1.03 + 1e-9)
    return canvas.svg


def _pairs(
    name: str, description: str, pairs: list[tuple[str, int, int]], labels: tuple[str, str], colour: int
) -> str | None:
    """Draw two bars per row: the whole, and the part of it that was really done."""
    pairs = [pair for pair in pairs if pair[1] > 0][:MAX_ROWS]
    if not pairs:
        return None
    with drawing(name, description, height=0.95 + 0.5 * len(pairs)) as canvas:
        axes, places = canvas.axes, range(len(pairs))
        axes.barh(places, [whole for _, whole, _ in pairs], height=0.62, color=GRID, label=labels[0])
        axes.barh(places, [done for _, _, done in pairs], height=0.34, color=SERIES[colour], label=labels[1])
        for place, (_, whole, done) in enumerate(pairs):
            saved = f"{percent(1 - done / whole)} saved" if done <= whole else "more than asked for"
            axes.annotate(
                f"{done:,} of {whole:,} · {saved}", (max(whole, done), place), (6, 0), textcoords="offset points",
                va="center", fontsize=9.5, color=INK,
            )  # fmt: skip
        axes.set_yticks(places, [label for label, _, _ in pairs])
        axes.set_ylim(len(pairs) - 0.4, -0.6)
        axes.set_xlim(0, max(max(whole, done) for _, whole, done in pairs) * 1.6)
        axes.xaxis.get_major_locator().set_params(integer=True, nbins=5)
        axes.set_xlabel("number of requests")
        axes.grid(axis="y", visible=False)
        legend_above(axes)
    return canvas.svg


def _from_zero(axes: Any, values: list[float], label: str) -> None:
    highest = max((value for value in values if not math.isnan(value)), default=0.0)
    axes.set_ylim(0, highest * 1.08 or 1.0)
    axes.margins(x=0.01)
    axes.set_ylabel(label)
    axes.set_xlabel(_TIME)


def _named(level: str) -> str:
    return short(priority(level), 16)


def _level(level: str) -> tuple[int, str]:
    return (int(level), level) if level.isdecimal() and len(level) < 10 else (10**9, level)


def _priority_colour(level: str) -> str:
    return PRIORITY[min(max(_level(level)[0], 1), len(PRIORITY)) - 1]
