"""The report as one self-contained HTML page (and the same history as JSON).

Every value passes Jinja2's autoescape; figures are SVG inside the page; a Content-Security-Policy in the
page forbids scripts and anything from elsewhere, so a hostile name can do nothing even if it got through.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from actors.report import charts
from actors.report.history import count, line, number, part, plain, rows
from actors.report.summary import equation
from actors.report.wording import moment, percent, priority, seconds, short, size

SCHEMA = "balance-report/1"
MAX_ACTIONS = 200
MAX_ERRORS = 50


def write_report(history: dict[str, Any], out_dir: str | Path) -> Path:
    """Write ``report.html`` and ``report.json`` into `out_dir` and return the page's path.

    Parameters
    ----------
    history : dict
        See `actors.report`; any part may be missing.
    out_dir : path
        Created if it is not there; an older report in it is replaced.

    Returns
    -------
    Path
        Of ``report.html``.  Cost: about a second, most of it for loading matplotlib.

    Examples
    --------
    >>> import tempfile
    >>> page = write_report({"title": "An empty run"}, tempfile.mkdtemp())
    >>> page.name, "there is no data" in page.read_text(encoding="utf-8")
    ('report.html', True)
    """
    history = plain(history)
    folder = Path(out_dir)
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    _replace(folder / "report.json", json.dumps({"schema": SCHEMA, **history}, indent=1, ensure_ascii=False) + "\n")
    _replace(page, render(history))
    return page


def _replace(path: Path, text: str) -> None:
    # A reader that has the page open never sees half of it.
    draft = path.with_name(path.name + ".part")
    draft.write_text(text, encoding="utf-8", errors="replace")
    draft.replace(path)


def render(history: dict[str, Any]) -> str:
    """Return the page of a history that went through `plain`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 (importing stays cheap)
    from markupsafe import Markup  # noqa: PLC0415

    environment = Environment(
        loader=PackageLoader("actors.report", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters.update(seconds=seconds, size=size, percent=percent, priority=priority, short=short)
    environment.filters["count"] = lambda value: f"{value:,}"

    def figure(svg: str | None) -> Markup | None:
        return Markup(svg) if svg else None  # noqa: S704 (drawn by matplotlib, which escapes text)

    done, wrong = rows(history, "actions"), rows(history, "errors")
    return environment.get_template("page.html.j2").render(
        title=short(history.get("title") or "A run of Balance", 120),
        started_at=moment(history.get("started_at")),
        duration_s=number(history, "duration_s"),
        command=short(history.get("command") or "", 200),
        equation=equation(history),
        tiles=_tiles(history),
        models=_models(history),
        demand=[
            (model_id, figure(charts.demand(history, model_id, order)))
            for order, model_id in enumerate(list(part(history, "demand"))[: charts.MAX_ROWS])
        ],
        queue=figure(charts.queue(history)),
        start_latency=figure(charts.start_latency(history)),
        cpu=figure(charts.usage(history, "cpu")),
        memory=figure(charts.usage(history, "memory")),
        merging=figure(charts.merging(history)),
        data=figure(charts.data(history)),
        data_rows=[
            {**{name: count(row, name) for name in ("requested", "fetched")},
             "source": row.get("source", "?"), "size_bytes": number(row, "size_bytes")}
            for row in rows(history, "data")
        ],
        actions=figure(charts.actions(history)),
        action_rows=[_said(row, "action", "subject", "reason") for row in done[:MAX_ACTIONS]],
        actions_left_out=max(0, len(done) - MAX_ACTIONS),
        errors=[{**_said(row, "where", "message"), "count": max(1, count(row, "count"))} for row in wrong[:MAX_ERRORS]],
        errors_left_out=max(0, len(wrong) - MAX_ERRORS),
        environment=[(name.replace("_", " "), value) for name, value in _environment(history)],
    )  # fmt: skip


def _said(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {"t_s": number(row, "t_s"), **{name: row.get(name) or "" for name in names}}


def _environment(history: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name.removesuffix("_bytes"), size(number({"v": value}, "v")))
        if name.endswith("_bytes")
        else (name, str(value))
        for name, value in part(history, "environment").items()
    ]


def _models(history: dict[str, Any]) -> list[dict[str, Any]]:
    names = ("accepted", "completed", "failed", "dead_lettered", "in_flight")
    found = []
    for row in rows(history, "models"):
        latency = part(row, "latency_s")
        objective, late = number(row, "objective_s"), number(latency, "p95")
        found.append(
            {
                "model_id": row.get("model_id", "?"),
                "priority": row.get("priority"),
                "objective_s": objective,
                "executed": count(row, "executed") if number(row, "executed") is not None else None,
                **{name: count(row, name) for name in names},
                **{name: number(latency, name) for name in ("p50", "p95", "p99")},
                "met": None if objective is None or late is None else late <= objective,
            }
        )
    return found


def _tiles(history: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the figures that a reader wants first: ``(value, what it is, what it compares with)``."""
    tiles = []
    terms = equation(history)
    if terms["accepted"]:
        tiles.append(
            (percent(terms["completed"] / terms["accepted"]), "completed", f"of {terms['accepted']:,} requests")
        )
    ran = [row for row in rows(history, "models") if number(row, "executed") is not None]
    accepted, executed = sum(count(r, "accepted") for r in ran), sum(count(r, "executed") for r in ran)
    if accepted:
        tiles.append(
            (percent(1 - executed / accepted), "saved by merging", f"{executed:,} runs for {accepted:,} requests")
        )
    levels = part(history, "start_latency")
    first = min(levels, key=lambda level: (len(level), level), default=None)
    if first is not None and (late := number(part(levels, first), "p99_s")) is not None:
        tiles.append((seconds(late), f"until priority {first} starts", "99th percentile"))
    _, busy = line(part(history, "usage"), "t_s", "cpu_measured_cores")
    there = number(part(history, "usage"), "cpu_capacity_cores")
    readings = [value for value in busy if not math.isnan(value)]
    if readings and there:
        share = sum(readings) / len(readings) / there
        tiles.append(
            (percent(share), "of the cores busy", f"on average; {max(readings):.1f} of {there:g} cores at the peak")
        )
    if "actions" in history:
        tiles.append((f"{len(rows(history, 'actions')):,}", "actions of the balancer", "each with its reason below"))
    return tiles
