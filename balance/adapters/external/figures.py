"""Figures on their way to whoever watches them: checked all at once, then kept as they stand."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from balance.errors import Conflict, InvalidValue
from balance.types import check_number

MAX_SERIES = 10_000
"""How many combinations of a name and its tags are kept: a tag of unbounded values must not take all memory."""

KINDS = ("gauge", "counter")
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]{0,199}")
_KEYS = frozenset({"value", "kind", "tags", "description"})


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: a gauge stands at its value, a counter has grown by it; tags are sorted by name."""

    name: str
    value: float
    kind: str = "gauge"
    tags: tuple[tuple[str, str], ...] = ()
    description: str = ""

    @property
    def tag_keys(self) -> tuple[str, ...]:
        """The names of the tags."""
        return tuple(name for name, _ in self.tags)


class Figures:
    """What was reported so far; usable from several threads.

    Examples
    --------
    >>> figures = Figures()
    >>> for _ in range(2):
    ...     _ = figures.report({"done": {"value": 2, "kind": "counter", "tags": {"model": "m"}}})
    >>> figures.to_dict()
    {'done': [{'value': 4.0, 'kind': 'counter', 'tags': {'model': 'm'}}]}
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: dict[str, Figure] = {}  # by name: says the kind, the names of the tags and the description
        self._values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def report(self, metrics_data: object) -> list[Figure]:
        """Keep the figures of a report and return them: by name a number, or a dict or a list of dicts.

        Such a dict has ``value`` and perhaps ``kind`` (``gauge`` or ``counter``), ``tags`` and ``description``.

        Raises
        ------
        InvalidValue
            A name, a number or a tag is none, or there are too many series; nothing is kept then.
        Conflict
            A name was reported as another kind, or with other tags; nothing is kept then.
        """
        if not isinstance(metrics_data, dict):
            raise InvalidValue("metrics_data", metrics_data, "a dict of figures by name")
        found = [
            _figure(name, each)
            for name, given in metrics_data.items()
            for each in (given if isinstance(given, list) else [given])
        ]
        with self._lock:
            first = dict(self._first)
            for figure in found:
                known = first.setdefault(figure.name, figure)
                if (known.kind, known.tag_keys) != (figure.kind, figure.tag_keys):
                    raise Conflict(
                        f"the figure {figure.name!r} is a {known.kind} with the tags {list(known.tag_keys)} already; "
                        "use another name",
                        name=figure.name,
                    )
            count = len(self._values.keys() | {(figure.name, figure.tags) for figure in found})
            if count > MAX_SERIES:
                raise InvalidValue("metrics_data", f"{count} series", f"at most {MAX_SERIES} series")
            self._first = first
            for figure in found:
                key = (figure.name, figure.tags)
                self._values[key] = figure.value + (self._values.get(key, 0.0) if figure.kind == "counter" else 0.0)
        return found

    def series(self) -> Iterator[tuple[Figure, list[Figure]]]:
        """Give for each name, sorted, the figure that was reported first, and how all of them stand."""
        with self._lock:
            standing = sorted(self._values.items())
            first = self._first
        for name, group in itertools.groupby(standing, key=lambda entry: entry[0][0]):
            yield first[name], [Figure(name, value, first[name].kind, key[1]) for key, value in group]

    def to_dict(self) -> dict[str, list[dict[str, Any]]]:
        """Return by name a list of ``{value, kind, tags}``, sorted."""
        return {
            first.name: [{"value": each.value, "kind": each.kind, "tags": dict(each.tags)} for each in standing]
            for first, standing in self.series()
        }


def _figure(name: object, given: object) -> Figure:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.endswith("_total"):
        expected = "letters, digits and _, not beginning with a digit; without _total, which counters are given"
        raise InvalidValue("name of a figure", name, expected)
    fields = given if isinstance(given, dict) else {"value": given}
    if "value" not in fields or not fields.keys() <= _KEYS:
        raise InvalidValue(name, given, "a number, or a dict of value, and perhaps kind, tags and description")
    kind = fields.get("kind", "gauge")
    if kind not in KINDS:
        raise InvalidValue(f"{name}.kind", kind, " or ".join(KINDS))
    value = check_number(name, fields["value"], minimum=0 if kind == "counter" else None)
    tags = fields.get("tags", {})
    if not isinstance(tags, dict) or not all(
        isinstance(key, str) and _NAME.fullmatch(key) and isinstance(text, str) for key, text in tags.items()
    ):
        raise InvalidValue(f"{name}.tags", tags, "a dict of str to str, with names like the figures'")
    return Figure(name, value, kind, tuple(sorted(tags.items())), str(fields.get("description", "")))
