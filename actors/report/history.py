"""Reading a history that may lack anything: each reader returns what is there, in one known form."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 12


def plain(value: Any, depth: int = 0) -> Any:
    """Return `value` as JSON values: NaN and infinities become None, what JSON does not know its text.

    Text loses control characters (a terminal would obey them) and lone surrogates (no file can hold them).

    Examples
    --------
    >>> plain({"a": float("nan"), 1: (2, {3})})
    {'a': None, '1': [2, '{3}']}
    """
    if isinstance(value, Mapping) and depth < MAX_DEPTH:
        return {_text(str(key)): plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, (list, tuple)) and depth < MAX_DEPTH:
        return [plain(inner, depth + 1) for inner in value]
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    number = _number(value)
    return number if number is not None or isinstance(value, float) else _text(str(value))


def _text(value: str) -> str:
    if value.isprintable():
        return value
    whole = value.encode("utf-8", errors="replace").decode("utf-8")
    return "".join(letter for letter in whole if letter in "\n\t" or not unicodedata.category(letter).startswith("C"))


def part(history: Any, *path: str) -> dict[str, Any]:
    """Return the dict at `path`, or an empty one."""
    for name in path:
        history = history.get(name) if isinstance(history, dict) else None
    return history if isinstance(history, dict) else {}


def rows(history: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the list of dicts called `name`; what is no dict is left out."""
    found = history.get(name)
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def number(row: dict[str, Any], name: str) -> float | None:
    """Return a finite number, or None."""
    return _number(row.get(name))


def count(row: dict[str, Any], name: str) -> int:
    """Return a whole number, 0 where there is none."""
    return int(_number(row.get(name)) or 0)


def line(row: dict[str, Any], times: str, values: str) -> tuple[list[float], list[float]]:
    """Return times and values of equal length, with NaN where there is no value; empty without two points.

    Examples
    --------
    >>> line({"t_s": [0, 1, 2, None], "n": [5, None, 7, 8, 9]}, "t_s", "n")
    ([0.0, 1.0, 2.0], [5.0, nan, 7.0])
    """
    at, of = row.get(times), row.get(values)
    if not isinstance(at, list) or not isinstance(of, list):
        return [], []
    points = [
        (moment, math.nan if (value := _number(reading)) is None else value)
        for when, reading in zip(at, of, strict=False)
        if (moment := _number(when)) is not None
    ]
    if sum(not math.isnan(value) for _, value in points) < 2:
        return [], []
    return [moment for moment, _ in points], [value for _, value in points]


def _number(value: Any) -> float | None:
    if value is None or isinstance(value, (bool, str)):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None
