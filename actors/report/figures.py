"""How a matplotlib figure becomes a part of the page: inline SVG, in the colours of the page.

Figures are made with the object API, no pyplot and no state beyond the call.  They are drawn in placeholder
colours which become CSS variables here, so that one figure serves light and dark pages and print.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INK, MUTED, GRID = "#0a0001", "#0a0002", "#0a0003"
#: Series colours, after Okabe and Ito's colour-blind-safe palette.
SERIES = ("#0b0001", "#0b0002", "#0b0003", "#0b0004", "#0b0005", "#0b0006")
#: Colours of the priorities 1 to 5; later ones share the last.
PRIORITY = ("#0c0001", "#0c0002", "#0c0003", "#0c0004", "#0c0005")

_VARIABLES = (
    {INK: "--ink", MUTED: "--muted", GRID: "--grid"}
    | {colour: f"--series-{number}" for number, colour in enumerate(SERIES, 1)}
    | {colour: f"--priority-{number}" for number, colour in enumerate(PRIORITY, 1)}
)
_STYLE = {
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched and copied
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "figure.facecolor": "none",  # the page shows through, light or dark
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.use_mathtext": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "font.size": 10.5,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}


class Canvas:
    """One figure with one pair of axes; `svg` holds the result after `drawing` has ended."""

    def __init__(self, axes: Any) -> None:
        self.axes = axes
        self.svg = ""


@contextmanager
def drawing(name: str, description: str, height: float = 2.7, width: float = 5.6) -> Iterator[Canvas]:
    """Draw on ``canvas.axes``; afterwards ``canvas.svg`` is the figure as inline SVG.

    Parameters
    ----------
    name : str
        A word that is unique on the page: it begins every id within the figure.
    description : str
        What the figure shows, for those who do not see it.
    height, width : float
        Inches, at which the text has the size of the page's text.
    """
    import matplotlib as mpl  # noqa: PLC0415 (importing the package stays cheap)
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # Only the layout is measured with matplotlib's font: the reader's browser has the letters of every script.
        warnings.filterwarnings("ignore", message=r"(?s)Glyph .* missing from font")
        figure = Figure(figsize=(width, height), layout="constrained")
        canvas = Canvas(figure.add_subplot())
        yield canvas
        raw = io.StringIO()
        FigureCanvasSVG(figure).print_svg(raw, metadata={"Date": None, "Creator": None})
    canvas.svg = _inline(raw.getvalue(), name, description)


def legend_above(axes: Any, columns: int = 4) -> None:
    """Put the legend over the axes, where it hides no data."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns,
            borderaxespad=0.2, columnspacing=1.0, handlelength=1.3 if columns < 5 else 0.8, handletextpad=0.4,
        )  # fmt: skip


def _inline(svg: str, name: str, description: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)  # ids are unique on the page
    svg = re.sub(r"#0[abc]000[1-6]", lambda found: f"var({_VARIABLES[found.group()]})", svg)
    label = html.escape(description, quote=True)
    head = re.sub(r' (width|height)="[^"]*"', "", svg[: svg.index(">")])
    return f'{head} role="img" aria-label="{label}"' + svg[svg.index(">") :]
