"""A history that is written down as it grows, and that others can follow.

Writing all of a thousand series down every few seconds would cost more than recording them.  So each round
writes the points that are new, and the whole of a few series in turn; after a restart the wholes are read, and of
the points those that came after.  What came after the last round is lost in a crash.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable
from typing import Any, NamedTuple

from balance.storage import Store
from balance.timeseries.history import History

ROUNDS = 60
"""After so many rounds each series has been written down as a whole."""

FOLLOWED = 100_000
"""How many points are kept for followers; one who is further behind gets the whole history."""

SERIES = "history"
POINTS = "history_points"


class Point(NamedTuple):
    """One record: `value` of a series at POSIX second `at`."""

    series: str
    at: float
    value: float


class Chronicle:
    """A `History`, the points that were added lately, and what of both is on disk.

    Parameters
    ----------
    history : History
        What to write to; only through `add`.
    incarnation : int
        Of the process: a follower of an earlier one has to begin anew.

    Examples
    --------
    >>> chronicle = Chronicle(History(), incarnation=1)
    >>> chronicle.add([Point("whisper", 1000.0, 2.0)])
    >>> [point.series for point in chronicle.since(None)["points"]], chronicle.since([1, 1])["points"]
    (['whisper'], [])
    """

    def __init__(self, history: History, incarnation: int) -> None:
        self.history = history
        self._incarnation = incarnation
        self._points: list[Point] = []
        #: The number of the first of `_points`, counted from the first of this incarnation.
        self._first = 0
        self._whole = False  # whether there is more in the history than all points since number 0
        self._unwritten: list[Point] = []
        self._round = 0
        self._next = ""
        self._on_disk: set[str] = set()

    def add(self, points: Iterable[Point]) -> None:
        """Record points; `InvalidValue` for one that makes no sense, and those after it are not recorded then."""
        for point in points:
            self.history.add(*point)
            self._points.append(point)
            self._unwritten.append(point)
        if len(self._points) > 2 * FOLLOWED:
            dropped = len(self._points) - FOLLOWED
            del self._points[:dropped]
            self._first += dropped
            self._whole = True

    def since(self, cursor: list[int] | None) -> dict[str, Any]:
        """Return what a follower lacks.

        Parameters
        ----------
        cursor : list of int, optional
            What the last call returned under that name; None at first.

        Returns
        -------
        dict
            ``cursor``; ``whole``: the pickled `History` to begin with (arrays from Ray can't be written to), or
            None if what the follower has is a beginning; ``points``: to be added to it.
        """
        end = self._first + len(self._points)
        begin = cursor[1] if cursor is not None and cursor[0] == self._incarnation else 0
        now = [self._incarnation, end]
        if begin < self._first or (begin == 0 and self._whole):
            return {"cursor": now, "whole": pickle.dumps(self.history), "points": []}
        fresh = cursor is None or cursor[0] != self._incarnation
        whole = pickle.dumps(self.history.part(())) if fresh else None
        return {"cursor": now, "whole": whole, "points": self._points[begin - self._first :]}

    # -- durable state -----------------------------------------------------------------------------

    def restore(self, store: Store) -> int:
        """Read what is on disk into the empty history; return how many points came after the wholes."""
        written = dict(store.scan(SERIES))
        self._on_disk = set(written)
        wholes = {name: body["tiers"] for name, body in written.items()}
        self.history.restore({**self.history.snapshot(), "series": wholes})
        rounds = sorted((int(key), body["points"]) for key, body in store.scan(POINTS))
        added = 0
        for number, points in rounds:
            for point in (Point(*each) for each in points):
                if number > written.get(point.series, {"round": -1})["round"]:
                    self.history.add(*point)
                    added += 1
        self._round = rounds[-1][0] + 1 if rounds else max((each["round"] for each in written.values()), default=-1) + 1
        self._whole = bool(self.history.series())
        return added

    def page(self) -> Page:
        """Return what is to be written down now; it is taken as written unless it is handed back (`not_written`)."""
        points, self._unwritten = self._unwritten, []
        names = self.history.series()
        count = math.ceil(len(names) / ROUNDS)
        turn = ([name for name in names if name > self._next] + names)[:count]
        self._next = turn[-1] if turn else ""
        wholes = self.history.part(turn).snapshot()["series"]
        gone = self._on_disk - set(names)
        self._on_disk = self._on_disk.union(turn) - gone
        made = Page(self._round, points, wholes, gone)
        self._round += 1
        return made

    def not_written(self, page: Page) -> None:
        """Take back the points of a page that could not be written; the next one has them."""
        self._unwritten[:0] = page.points


class Page(NamedTuple):
    """What one round writes."""

    number: int
    points: list[Point]
    wholes: dict[str, Any]
    gone: set[str]

    def write(self, tx: Any) -> None:
        """Write it in a transaction, and delete the points that every series' whole has by now."""
        if self.points:
            tx.put(POINTS, str(self.number), {"points": [list(point) for point in self.points]})
        tx.put_many(SERIES, {name: {"round": self.number, "tiers": tiers} for name, tiers in self.wholes.items()})
        for name in self.gone:
            tx.delete(SERIES, name)
        # A series that is new may have to wait for a whole turn of the others, and for what is left of this one.
        tx.delete(POINTS, str(self.number - 2 * ROUNDS - 2))
