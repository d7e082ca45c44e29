"""The history that is written down as it grows: what is on disk is what was recorded."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from actors import chronicle
from actors.chronicle import ROUNDS, Chronicle, Point
from balance.storage import Fence, Store
from balance.timeseries.history import History

NOW = 10_000.0


class Disk:
    """A store in memory, and who may write to it."""

    def __init__(self) -> None:
        self.store = Store()
        self.fence: Fence = self.store.acquire("monitoring")

    def write(self, book: Chronicle) -> None:
        """Write one page."""
        with self.store.transaction(self.fence) as tx:
            book.page().write(tx)

    def read(self) -> Chronicle:
        """Begin anew, with what is on disk."""
        book = Chronicle(History(), incarnation=2)
        book.restore(self.store)
        return book


@pytest.fixture
def disk() -> Iterator[Disk]:
    """An empty disk."""
    made = Disk()
    yield made
    made.store.close()


def counts(book: Chronicle, series: str) -> list[float]:
    """Return what is known of the last 20 seconds before `NOW`."""
    return [value for value in book.history.counts(series, 1.0, 20, NOW).tolist() if value == value]  # noqa: PLR0124


@pytest.mark.parametrize("rounds", [1, ROUNDS - 1, 3 * ROUNDS])
def test_every_point_that_was_written_is_there_after_a_restart(disk: Disk, rounds: int) -> None:
    """Wholes and points together give the history back, whenever the process died; no point counts twice."""
    book = Chronicle(History(), incarnation=1)
    names = [f"s{number}" for number in range(ROUNDS - 1)]
    book.add(Point(name, NOW - 15, 1.0) for name in names)
    for number in range(rounds):
        book.add([Point(names[number % len(names)], NOW - 5 - number % 7, 2.0), Point("busy", NOW - 3, 1.0)])
        disk.write(book)
    again = disk.read()
    assert again.history.series() == book.history.series()
    assert all(counts(again, name) == counts(book, name) for name in book.history.series())


def test_old_points_are_deleted(disk: Disk) -> None:
    """What is on disk is bounded: the wholes, and the points of the rounds since then."""
    book = Chronicle(History(), incarnation=1)
    for _ in range(4 * ROUNDS):
        book.add([Point("a", NOW, 1.0)])
        disk.write(book)
    assert len(disk.store.scan(chronicle.POINTS)) <= 2 * ROUNDS + 2
    assert len(disk.store.scan(chronicle.SERIES)) == 1


def test_a_page_that_could_not_be_written_is_not_lost(disk: Disk) -> None:
    """The points of a failed write are in the next one, before the newer ones."""
    book = Chronicle(History(), incarnation=1)
    book.add([Point("a", NOW - 5, 1.0)])
    book.not_written(book.page())
    book.add([Point("a", NOW - 4, 2.0)])
    assert [point.value for point in book.page().points] == [1.0, 2.0]


def test_a_forgotten_series_leaves_the_disk(disk: Disk) -> None:
    """What the history has dropped for want of room is not read again."""
    book = Chronicle(History(max_series=1), incarnation=1)
    book.add([Point("a", NOW, 1.0)])
    disk.write(book)
    book.add([Point("b", NOW, 1.0)])
    disk.write(book)
    assert [key for key, _ in disk.store.scan(chronicle.SERIES)] == ["b"]


def test_a_follower_has_the_same_history(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the beginning, after a restart of the leader, and when it was away for too long."""
    monkeypatch.setattr(chronicle, "FOLLOWED", 3)
    book, cursor = Chronicle(History(), incarnation=1), None
    mirror = History()

    def follow() -> None:
        nonlocal cursor, mirror
        lacking = book.since(cursor)
        cursor = lacking["cursor"]
        if lacking["whole"] is not None:
            mirror = pickle.loads(lacking["whole"])
        for point in lacking["points"]:
            mirror.add(*point)

    def same() -> bool:
        return mirror.snapshot() == book.history.snapshot()

    for value in range(3):
        book.add([Point("a", NOW - 5, float(value))])
        follow()
        assert same()
    book.add(Point("b", NOW - 4, 1.0) for _ in range(20))
    follow()
    assert same()
    disk.write(book)
    book = disk.read()
    book.add([Point("c", NOW - 4, 1.0)])
    follow()
    assert same()
