"""Forecasts as a picture: for each series its recent past, what comes next, and the range it most likely stays in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from actors.report.timeline import INK, MUTED, SERIES, STYLE
from balance.errors import ClusterError

#: More panels would not be read.
MOST_PANELS = 12
_PAST, _MOST_PAST = 4, 6  # horizons of the past; more only as far as it shows a whole season


def draw(panels: Sequence[dict[str, Any]], total: int, file: Path) -> None:
    """Write the picture; the format (PNG, SVG, PDF) follows from the file's name.

    Parameters
    ----------
    panels : sequence of dict
        Each ``series_id``, ``past`` (values, NaN for gaps), ``point``, ``quantiles`` (by ``"0.1"``, ``"0.9"``),
        ``seasons``, ``status``, ``backtest``, ``step`` (a step in words).
    total : int
        How many series were forecast.

    Raises
    ------
    ClusterError
        The file can't be written.
    """
    import matplotlib as mpl  # noqa: PLC0415 (importing this module stays cheap)
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    shown = list(panels[:MOST_PANELS])
    columns = 1 if len(shown) < 4 else 2
    rows = -(-len(shown) // columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 1.1 + 2.5 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
        for panel, one in zip(axes, shown, strict=False):
            _panel(panel, one)
        for empty in axes[len(shown) :]:
            empty.set_visible(False)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)
        steps = len(shown[0]["point"])
        more = f", the first {len(shown)} of them" if total > len(shown) else ""
        title = f"{total:,} series{more}" if total > 1 else _short(shown[0]["series_id"])
        figure.suptitle(f"{title}: the next {steps} steps", x=0.01, ha="left")
        try:
            figure.savefig(file.expanduser(), dpi=130)
        except OSError as error:
            raise ClusterError(f"{str(file)!r} can't be written ({error.strerror})") from None


def _panel(axes: Any, one: dict[str, Any]) -> None:
    horizon = len(one["point"])
    season = max(one["seasons"], default=0)
    length = max(_PAST * horizon, min(season + horizon, _MOST_PAST * horizon), 30)
    past = list(one["past"])[-length:]
    ahead = range(1, horizon + 1)
    # From the last value on, so that the eye has no gap to cross.
    start = [] if not past or past[-1] != past[-1] else [past[-1]]
    axes.plot(range(1 - len(past), 1), past, color=INK, linewidth=1.1, label="what came")
    low, high = one["quantiles"]["0.1"], one["quantiles"]["0.9"]
    at = [0, *ahead] if start else list(ahead)
    axes.fill_between(at, [*start, *low], [*start, *high], color=SERIES[0], alpha=0.22, linewidth=0, label="80 % range")
    axes.plot(at, [*start, *one["point"]], color=SERIES[0], label="forecast")
    axes.axvline(0, color=MUTED, linewidth=0.8, linestyle=":")
    mase = one["backtest"]["mase"]
    facts = [one["status"].replace("_", " ")] if one["status"] != "ok" else []
    facts += [f"MASE {mase:.2f}"] if mase is not None else []
    facts += ["season " + ", ".join(map(str, one["seasons"]))] if one["seasons"] else ["no season"]
    axes.set_title(f"{_short(one['series_id'])}   ({'; '.join(facts)})", loc="left", fontsize=9)
    axes.set_xlabel(f"{one['step']} from the last value", fontsize=8)
    axes.margins(x=0)


def _short(name: str) -> str:
    return name if len(name) <= 40 else name[:39] + "…"
