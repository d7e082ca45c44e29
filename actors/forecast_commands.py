"""``balance forecast`` and ``balance backtest``: what comes next in a file's series, and how well that is known."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from actors.console import err, out
from actors.simulate import duration
from balance.errors import ClusterError, InvalidValue
from balance.types import check_int

if TYPE_CHECKING:
    from balance.adapters.series_tables import TableSeries

_PICTURES = (".png", ".svg", ".pdf")
_SHOWN = 20  # series of which the terminal shows a line
_COLUMNS = ("series_id", "step", "mean", "q10", "q50", "q90")
_SCORES = ("smape", "mase", "pinball", "coverage", "cpu_s")
_FORMATS = (".2f", ".3f", ".3f", ".1%", ".3f")
_LONGEST_HORIZON = 100_000

Series = Annotated[
    Path, typer.Argument(metavar="SERIES", help="CSV of series_id,timestamp_or_index,value; also gzipped.")
]
Horizon = Annotated[int, typer.Option(metavar="STEPS", min=1, max=_LONGEST_HORIZON, help="How many steps ahead.")]
Season = Annotated[
    str, typer.Option(metavar="STEPS", help="Season lengths such as 24,168; 0 for none, auto to find them.")
]
Budget = Annotated[
    float, typer.Option(metavar="SECONDS", min=0.001, max=3600, help="CPU time that one series may take.")
]
Jobs = Annotated[int, typer.Option(metavar="PROCESSES", min=0, max=256, help="0 takes one for each core.")]


def forecast(  # noqa: PLR0917 (typer reads options off the signature)
    series: Series,
    horizon: Horizon = 24,
    season: Season = "auto",
    output: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="CSV of series_id,step,mean,q10,q50,q90.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="A picture: PNG, SVG or PDF.")] = None,
    budget: Budget = 1.0,
    jobs: Jobs = 0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: everything, with reasons.")] = False,
) -> None:
    """Forecast the series of a file, each by what has worked best on its own past, with ranges."""
    from actors import series_work  # noqa: PLC0415

    lengths = season_lengths(season)
    _check_files(output, plot)
    if plot is not None and plot.suffix.lower() not in _PICTURES:
        raise InvalidValue("plot", str(plot), "a file name that ends in " + ", ".join(_PICTURES))
    found = _read(series)
    work = [series_work.Job(one.series_id, one.values, horizon, lengths, budget) for one in found]
    made = _run("forecasting", series_work.forecast, work, jobs)
    if output is not None:
        _write(output, _COLUMNS, (row for one in made for row in _rows(one)))
    if plot is not None:
        from actors.report.forecasts import MOST_PANELS, draw  # noqa: PLC0415 (matplotlib)

        panels = [
            {**one, "past": given.values, "step": step_in_words(given)} for one, given in zip(made, found, strict=True)
        ]
        draw(panels[:MOST_PANELS], len(panels), plot)
    for one, given in zip(made, found, strict=True):
        one["warnings"] = given.warnings()
        one["steps_known"] = len(given.values)
        one["step_s"] = given.step if given.dated else None
    if as_json:
        out.print_json(json.dumps(made))
    else:
        _show_forecasts(made, horizon)


def backtest(  # noqa: PLR0917 (as above)
    series: Series,
    horizon: Horizon = 24,
    season: Season = "auto",
    origins: Annotated[int, typer.Option(metavar="COUNT", min=1, max=1000, help="From how many past moments.")] = 3,
    output: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="CSV of each series and method.")] = None,
    budget: Budget = 1.0,
    jobs: Jobs = 0,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: each series and method.")] = False,
) -> None:
    """Compare the forecasting methods on the past of the series of a file, from several moments."""
    from actors import series_work  # noqa: PLC0415

    lengths = season_lengths(season)
    _check_files(output)
    found = _read(series)
    work = [series_work.Job(one.series_id, one.values, horizon, lengths, budget, origins) for one in found]
    made = _run("backtesting", series_work.backtest, work, jobs)
    if output is not None:
        columns = ("series_id", "method", "status", "origins", *_SCORES)
        rows = (
            (one["series_id"], *("" if row[name] is None else row[name] for name in columns[1:]))
            for one in made
            for row in one["methods"]
        )
        _write(output, columns, rows)
    if as_json:
        out.print_json(json.dumps(made))
    else:
        _show_backtest(made)
    if not any(row["status"] == "ok" for one in made for row in one["methods"]):
        raise typer.Exit(1)


def season_lengths(text: str) -> tuple[int, ...] | None:
    """Return the season lengths that an option names; None to find them, empty for none.

    Examples
    --------
    >>> season_lengths("auto"), season_lengths("24, 168"), season_lengths("0")
    (None, (24, 168), ())
    """
    if text.strip().lower() == "auto":
        return None
    try:
        given = [check_int("season", word.strip(), minimum=0) for word in text.split(",")]
    except InvalidValue:
        raise InvalidValue("season", text, "auto, or lengths in steps such as 24 or 24,168 (0: none)") from None
    return tuple(sorted({int(length) for length in given if int(length) > 1}))


def step_in_words(given: TableSeries) -> str:
    """Return what one step of a series is, for an axis."""
    return f"steps of {duration(given.step)}" if given.dated else "steps"


def _check_files(*files: Path | None) -> None:
    """Complain before the work begins, not after it."""
    for file in files:
        if file is not None and not file.expanduser().absolute().parent.is_dir():
            raise InvalidValue("file", str(file), "a file in a directory that exists")


def _read(path: Path) -> list[TableSeries]:
    from balance.adapters.series_tables import read_series  # noqa: PLC0415 (numpy: only these commands pay)

    with err.status(f"reading {path} ..."):
        found = read_series(path)
    wrong: Counter[str] = Counter()
    for one in found:
        wrong.update(one.warnings())
    for name, meaning in (
        ("duplicates", "readings share a step with another: their mean counts"),
        ("unordered", "readings are older than the one before: they were sorted"),
        ("gaps", "steps have no value: they were filled in between their neighbours"),
        ("unreadable", "moments or values can't be read: they were left out"),
    ):
        if wrong[name]:
            err.print(f"note: {wrong[name]:,} {meaning}")
    return found


def _run(what: str, function: Callable[[Any], dict[str, Any]], work: Sequence[Any], jobs: int) -> list[dict[str, Any]]:
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from actors.series_work import run  # noqa: PLC0415

    processes = jobs or len(os.sched_getaffinity(0))
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("series"))
    made = []
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=err, transient=True) as bar:
        line = bar.add_task("", total=len(work))
        for one in run(function, work, processes):
            made.append(one)
            bar.advance(line)
    return made


def _rows(made: dict[str, Any]) -> Iterable[tuple[Any, ...]]:
    low, middle, high = (made["quantiles"][level] for level in ("0.1", "0.5", "0.9"))
    for step, row in enumerate(zip(made["point"], low, middle, high, strict=True), start=1):
        yield (made["series_id"], step, *row)


def _write(file: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    try:
        with file.expanduser().open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle)
            writer.writerow(columns)
            writer.writerows(rows)
    except OSError as error:
        raise ClusterError(f"{str(file)!r} can't be written ({error.strerror})") from None


def _show_forecasts(made: Sequence[dict[str, Any]], horizon: int) -> None:
    states = Counter(one["status"] for one in made)
    table = _table(
        "series", "status", "known", "season", "MASE", "next", f"step {horizon}", "80 % range there", "method"
    )
    for one in made[:_SHOWN]:
        mase = one["backtest"]["mase"]
        method = next(iter(one["weights"]))
        others = len(one["weights"]) - 1
        table.add_row(
            _short(one["series_id"]),
            one["status"],
            f"{one['steps_known']:,}",
            ", ".join(map(str, one["seasons"])) or "-",
            "-" if mase is None else f"{mase:.2f}",
            f"{one['point'][0]:.4g}",
            f"{one['point'][-1]:.4g}",
            f"{one['quantiles']['0.1'][-1]:.4g} to {one['quantiles']['0.9'][-1]:.4g}",
            method + (f" and {others} more" if others else ""),
        )
    out.print(table)
    if len(made) > _SHOWN:
        out.print(f"... and {len(made) - _SHOWN:,} more; --out or --json has them all")
    cpu_s = sum(one["cpu_s"] for one in made) / len(made)
    said = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
    out.print(f"{len(made):,} series, {horizon} steps ahead: {said}; {cpu_s:.2f} CPU-s each")
    for one in made[:_SHOWN]:
        if one["status"] != "ok":
            out.print(f"  {_short(one['series_id'])}: {one['reason']}", markup=False, soft_wrap=True)


def _show_backtest(made: Sequence[dict[str, Any]]) -> None:
    table = _table("method", "series", "sMAPE", "MASE", "pinball", "in the 80 % range", "CPU-s")
    by_method: dict[str, list[dict[str, Any]]] = {}
    for one in made:
        for row in one["methods"]:
            by_method.setdefault(row["method"], []).append(row)
    good = {name: [row for row in rows if row["status"] == "ok"] for name, rows in by_method.items()}
    means = {name: [_mean(row[score] for row in rows) for score in _SCORES] for name, rows in good.items()}

    def merit(name: str) -> tuple[int, float, str]:
        mase = means[name][1]
        return (-len(good[name]), float("inf") if mase is None else mase, name)

    # What worked on most series first, the best of those on top.
    for name in sorted(means, key=merit):
        cells = ("" if mean is None else f"{mean:{form}}" for mean, form in zip(means[name], _FORMATS, strict=True))
        table.add_row(name, f"{len(good[name]):,}", *cells, style="bold" if name == "combination" else None)
    out.print(table)
    short = sum(all(row["status"] == "insufficient_data" for row in one["methods"]) for one in made if not one["error"])
    if short:
        out.print(f"{short:,} of {len(made):,} series are too short: half of a series, and 8 values, stay known")
    for one in made:
        if one["error"]:
            out.print(f"  {_short(one['series_id'])}: {one['error']}", markup=False, soft_wrap=True)
    out.print("[dim]MASE and pinball are relative to the mean change from one season to the next[/dim]")


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in titles:
        table.add_column(
            title, justify="left" if title == titles[0] or title in {"status", "method"} else "right", no_wrap=True
        )
    return table


def _short(name: str) -> str:
    return name if len(name) <= 32 else name[:31] + "…"
