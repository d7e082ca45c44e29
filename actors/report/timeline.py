"""A simulation as a picture: what was in use, what waited and how long, who had how much."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balance.errors import ClusterError

if TYPE_CHECKING:
    from balance.simulation import History

INK, MUTED, _GRID = "#1d2433", "#5b6475", "#e3e7ee"
# After Okabe and Ito's colour-blind-safe palette.
SERIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_POINTS = 600  # more than a page has room for
STYLE = {
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a tenant's name is a dollar sign
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "font.size": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


def draw(history: History, file: Path) -> None:
    """Write the picture; the format (PNG, SVG, PDF) follows from the file's name.

    Raises
    ------
    ClusterError
        The file can't be written.
    """
    import matplotlib as mpl  # noqa: PLC0415 (importing this module stays cheap)
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 9.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(4, 1)
        for part, panel in zip((_use, _queue, _shares, _waits), axes, strict=True):
            part(panel, history)
        figure.suptitle(f"{len(history.task_ids):,} tasks on {len(history.nodes):,} nodes in use", x=0.01, ha="left")
        try:
            figure.savefig(file.expanduser(), dpi=130)
        except OSError as error:
            raise ClusterError(f"{str(file)!r} can't be written ({error.strerror})") from None


def _moments(history: History) -> tuple[Any, Any, float, str]:
    """Return the edges of equal intervals, their middles in the unit, its length in seconds, and its name."""
    import numpy as np  # noqa: PLC0415

    edges = np.linspace(0.0, max(history.end_s, 1e-9), _POINTS + 1)
    unit, name = next(
        ((s, n) for s, n in ((86_400, "days"), (3_600, "hours"), (60, "minutes")) if edges[-1] > 3 * s), (1, "seconds")
    )
    return edges, (edges[1:] + edges[:-1]) / 2 / unit, unit, name


def _averaged(function: Any, edges: Any) -> Any:
    """Return the means of a step function between the edges, by its integral."""
    import numpy as np  # noqa: PLC0415

    when, what = function
    if not len(when):
        return np.zeros(len(edges) - 1)
    when, what = np.concatenate(([0.0], when)), np.concatenate(([0.0], what))
    integral = np.concatenate(([0.0], np.cumsum(what[:-1] * np.diff(when))))
    index = np.clip(np.searchsorted(when, edges, side="right") - 1, 0, None)
    return np.diff(integral[index] + what[index] * (edges - when[index])) / np.diff(edges)


def _use(axes: Any, history: History) -> None:
    from balance.simulation.history import RESOURCES  # noqa: PLC0415

    edges, middles, _, name = _moments(history)
    for colour, resource in zip(SERIES, RESOURCES, strict=False):
        if history.capacity[:, RESOURCES.index(resource)].any():
            part = _averaged(history.utilisation(resource), edges) * 100
            axes.plot(
                middles,
                part,
                color=colour,
                label=f"{resource} {100 * history.mean_utilisation(resource):.0f} % on average",
            )
    axes.set_ylim(0, 103)
    _finish(axes, "in use, %", name)


def _queue(axes: Any, history: History) -> None:
    import numpy as np  # noqa: PLC0415

    edges, middles, _, name = _moments(history)
    levels = [int(level) for level in np.unique(history.priority)]
    rows = [_averaged(history.queue_length(level), edges) for level in levels[: len(SERIES)]]
    axes.stackplot(
        middles, rows, labels=[f"priority {level}" for level in levels], colors=SERIES, linewidth=0, alpha=0.85
    )
    axes.set_ylim(bottom=0)
    _finish(axes, "tasks waiting", name)


def _shares(axes: Any, history: History) -> None:
    import numpy as np  # noqa: PLC0415

    from balance.simulation.history import RESOURCES  # noqa: PLC0415

    edges, middles, _, name = _moments(history)
    for colour, tenant in zip(SERIES, sorted(history.tenants), strict=False):
        part = np.max([_averaged(history.utilisation(resource, tenant), edges) for resource in RESOURCES], axis=0)
        axes.plot(middles, part * 100, color=colour, label=tenant[:40])
    axes.set_ylim(0, 103)
    _finish(axes, "dominant share, %", name)


def _waits(axes: Any, history: History) -> None:
    """Draw for each priority which part of its tasks had started after how long."""
    import numpy as np  # noqa: PLC0415

    from actors.simulate import duration  # noqa: PLC0415

    wait_s = history.started - history.eligible
    longest = 0.0
    for colour, level in zip(SERIES, np.unique(history.priority), strict=False):
        waits = np.sort(wait_s[(history.priority == level) & ~np.isnan(wait_s)])
        if len(waits):
            longest = max(longest, float(waits[-1]))
            started = np.arange(1, len(waits) + 1) / len(waits) * 100
            label = f"priority {level}: p99 {duration(float(np.quantile(waits, 0.99)))}"
            axes.step(np.maximum(waits, 1e-3), started, where="post", color=colour, label=label)
    axes.set_xscale("log")
    axes.set_xlim(1e-3, max(1.0, 10 ** math.ceil(math.log10(max(longest, 1e-3)) + 1e-9)))
    axes.set_ylim(0, 103)
    axes.xaxis.set_major_formatter(lambda value, _: duration(value))
    _finish(axes, "tasks started, %", None)
    axes.set_xlabel("after having waited for")


def _finish(axes: Any, label: str, unit: str | None) -> None:
    axes.set_ylabel(label)
    axes.margins(x=0)
    if unit is not None:
        axes.set_xlabel(unit)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5, borderaxespad=0.2, columnspacing=1.2)
