"""Figures as a table for people, and the same as JSON for programs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.machine import Machine


def quantile(values: Sequence[float], q: float) -> float:
    """Return the smallest value that at least the share `q` of `values` does not exceed (nearest rank).

    Examples
    --------
    >>> quantile([4, 1, 3, 2], 0.5), quantile([4, 1, 3, 2], 0.99), quantile([7], 0.0)
    (2, 4, 7)
    """
    ordered = sorted(values)
    rank = -(-q * len(ordered) // 1)  # ceil
    return ordered[max(0, int(rank) - 1)]


def spread(values: Sequence[float]) -> str:
    """Return ``median (least-most)`` of several rounds, or the one value.

    Examples
    --------
    >>> spread([1.0, 3.0, 2.0]), spread([0.5])
    ('2.000 (1.000-3.000)', '0.500')
    """
    middle = f"{statistics.median(values):.3f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.3f}-{max(values):.3f})"


@dataclass(slots=True)
class Report:
    """A table of figures, the machine that they belong to, and what follows from them.

    Examples
    --------
    >>> report = Report("Speed", ["who", "seconds"], Machine("cpu", 2, 8.0, 0.0, "3.11", {}, "2026-01-01"))
    >>> report.add("Balance", 1.5)
    >>> report.bar("at most 2 s", "1.50 s", met=True)
    >>> print(report)
    Speed
    who     | seconds
    Balance | 1.5
    bar at most 2 s: 1.50 s, met
    on 2 cores (cpu), 8 GiB, load 0 before, Python 3.11, ; 2026-01-01
    """

    title: str
    columns: list[str]
    machine: Machine
    rows: list[list[Any]] = field(default_factory=list)
    bars: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def add(self, *cells: Any) -> None:
        """Add a row, one cell for each column."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns: {cells}")
        self.rows.append(list(cells))

    def bar(self, bar: str, measured: str, *, met: bool) -> None:
        """Set what was measured against what was asked for."""
        self.bars.append({"bar": bar, "measured": measured, "met": met})

    @property
    def met(self) -> bool:
        """Whether every bar was met."""
        return all(each["met"] for each in self.bars)

    def __str__(self) -> str:
        table = [self.columns, *([str(cell) for cell in row] for row in self.rows)]
        widths = [max(len(row[column]) for row in table) for column in range(len(self.columns))]
        lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
        verdicts = [
            f"bar {each['bar']}: {each['measured']}, {'met' if each['met'] else 'MISSED'}" for each in self.bars
        ]
        facts = [f"{name}: {value}" for name, value in self.facts.items()]
        return "\n".join(line.rstrip() for line in [self.title, *lines, *facts, *verdicts, f"on {self.machine}"])

    def show(self, json_path: Path | None) -> None:
        """Print it, and write it as JSON where that is asked for."""
        print(self)
        if json_path is not None:
            json_path.write_text(self.to_json(), encoding="utf-8")

    def to_json(self) -> str:
        """Return everything as one JSON object."""
        kept = {
            "title": self.title,
            "columns": self.columns,
            "rows": self.rows,
            "facts": self.facts,
            "bars": self.bars,
            "machine": self.machine.to_dict(),
        }
        return json.dumps(kept, indent=2)
