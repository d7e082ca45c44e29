"""What the terminal shows while a run goes on."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import ray
from ray.exceptions import RayError
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

REFRESH_S = 0.5


class Progress:
    """A table of the models, refreshed twice a second; plain lines every ten seconds where there is no terminal.

    Parameters
    ----------
    out : Console
        Where to show it.
    batches : ActorHandle
        Who knows.
    expected_s : float or None
        How long the demand lasts, where that is known.
    """

    def __init__(self, out: Console, batches: Any, expected_s: float | None) -> None:
        self._out = out
        self._batches = batches
        self._expected_s = expected_s
        self._asked: Any = None
        self._shown_at = -10.0
        self._models: dict[str, dict[str, Any]] = {}
        self._live = Live(console=out, auto_refresh=False, transient=True)
        self.sent = 0

    def __enter__(self) -> Self:
        if self._out.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, elapsed_s: float, *, draining: bool = False) -> None:
        """Bring the table up to date, at most twice a second; never waits for an answer."""
        self._collect()
        pause = REFRESH_S if self._out.is_terminal else 10.0
        if elapsed_s - self._shown_at < pause:
            return
        self._shown_at = elapsed_s
        if self._out.is_terminal:
            self._live.update(self._table(elapsed_s, draining=draining), refresh=True)
        else:
            self._out.print(self._line(elapsed_s), highlight=False)

    def open_requests(self) -> int:
        """Return how many accepted requests have no outcome yet; waits for a fresh answer."""
        self._models = ray.get(self._batches.stats_only.remote(), timeout=30)["models"]
        return self.sent - self._sum("completed") - self._sum("failed") - self._sum("dead_lettered")

    def _collect(self) -> None:
        if self._asked is None:
            self._asked = self._batches.stats_only.remote()
        ready, _ = ray.wait([self._asked], timeout=0)
        if ready:
            with contextlib.suppress(RayError):
                self._models = ray.get(self._asked, timeout=1)["models"]
            self._asked = None

    def _sum(self, name: str) -> int:
        return sum(int(model[name]) for model in self._models.values())

    def _line(self, elapsed_s: float) -> str:
        return (
            f"{elapsed_s:5.0f} s  {self.sent} requests, {self._sum('completed')} answered by "
            f"{self._sum('executed')} runs, {self._sum('queued')} waiting, {self._sum('failed')} failed"
        )

    def _table(self, elapsed_s: float, *, draining: bool) -> Table:
        grid = Table.grid(padding=(0, 2))
        head = Text("the last answers" if draining else f"{elapsed_s:.0f} s")
        bar = ProgressBar(total=self._expected_s or 1.0, completed=min(elapsed_s, self._expected_s or 0.0), width=40)
        grid.add_row(head, bar if self._expected_s else Text(f"{self.sent} requests"))
        table = Table(box=None, pad_edge=False, header_style="dim")
        for name in ("model", "accepted", "answered", "runs", "waiting", "batches running", "may run", "failed"):
            table.add_column(name, justify="left" if name == "model" else "right")
        for model_id, model in sorted(self._models.items()):
            table.add_row(
                model_id,
                *(
                    str(model[name])
                    for name in ("accepted", "completed", "executed", "queued", "running", "parallelism", "failed")
                ),
            )
        outer = Table.grid()
        outer.add_row(grid)
        outer.add_row(table)
        return outer
