"""The report in a terminal: the conservation line, and a table of the models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from actors.report.history import count, number, part, plain, rows
from actors.report.wording import NOTHING, percent, seconds, short

if TYPE_CHECKING:
    from rich.console import RenderableType

_HEAD = ("model", "prio", "accepted", "done", "failed", "open", "runs", "p50", "p95", "p99")
"""Fits a terminal of 80 columns; what is dead-lettered counts as failed here, the sentence below tells them apart."""


def summary_lines(history: dict[str, Any]) -> list[str]:
    """Return the summary as plain lines: first the conservation line, then a line per model."""
    history = plain(history)
    return [_conservation(history)[0], *("  ".join(cells) for cells in _cells(history)), *_facts(history)]


def summary(history: dict[str, Any]) -> RenderableType:
    """Return the same for a terminal with colours (rich); names are never read as markup."""
    from rich.console import Group  # noqa: PLC0415 (importing the package stays cheap)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    history = plain(history)
    sentence, holds = _conservation(history)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in _HEAD:
        table.add_column(title, justify="left" if title == "model" else "right", no_wrap=True)
    for cells in _cells(history):
        table.add_row(*(Text(cell) for cell in cells))
    verdict = Text(sentence, style={True: "bold green", False: "bold red", None: "yellow"}[holds])
    return Group(table, Text(), *(Text(fact) for fact in _facts(history)), verdict)


def equation(history: dict[str, Any]) -> dict[str, Any]:
    """Return the conservation line's terms and whether it holds: counted again here, and by the store.

    Returns
    -------
    dict
        ``accepted, completed, failed, dead_lettered, in_flight`` (counts), ``missing`` (accepted that are
        nowhere), ``holds`` (bool, or None where there is nothing to check).
    """
    terms = part(history, "conservation")
    found = {name: count(terms, name) for name in ("accepted", "completed", "failed", "dead_lettered", "in_flight")}
    missing = 2 * found["accepted"] - sum(found.values())
    holds = None if not terms else missing == 0 and terms.get("holds", True) is True
    return {**found, "missing": missing, "holds": holds}


def _conservation(history: dict[str, Any]) -> tuple[str, bool | None]:
    terms = equation(history)
    if terms["holds"] is None:
        return "conservation: there is no data", None
    line = (
        f"{terms['accepted']:,} accepted = {terms['completed']:,} completed + {terms['failed']:,} failed + "
        f"{terms['dead_lettered']:,} dead-lettered + {terms['in_flight']:,} in flight"
    )
    if terms["holds"]:
        return f"{line}: nothing lost", True
    return f"{line}: DOES NOT HOLD, {terms['missing']:,} unaccounted for", False


def _cells(history: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            short(row.get("model_id", "?")),
            str(row.get("priority", NOTHING)),
            f"{count(row, 'accepted'):,}",
            f"{count(row, 'completed'):,}",
            f"{count(row, 'failed') + count(row, 'dead_lettered'):,}",
            f"{count(row, 'in_flight'):,}",
            f"{count(row, 'executed'):,}" if number(row, "executed") is not None else NOTHING,
            *(seconds(number(part(row, "latency_s"), name)) for name in ("p50", "p95", "p99")),
        )
        for row in rows(history, "models")
    ]


def _facts(history: dict[str, Any]) -> list[str]:
    facts = []
    ran = [row for row in rows(history, "models") if number(row, "executed") is not None]
    accepted, executed = sum(count(r, "accepted") for r in ran), sum(count(r, "executed") for r in ran)
    if accepted:
        facts.append(
            f"merging: {executed:,} runs answered {accepted:,} requests ({percent(1 - executed / accepted)} saved)"
        )
    done = rows(history, "actions")
    if done:
        facts.append(f"balancer: {len(done):,} actions, the last: {short(done[-1].get('reason', ''), 90)}")
    wrong = rows(history, "errors")
    if wrong:
        total = sum(max(1, count(row, "count")) for row in wrong)
        facts.append(f"errors: {total:,}, the first: {short(wrong[0].get('message', ''), 90)}")
    return facts
