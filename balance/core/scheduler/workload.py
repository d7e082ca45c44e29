"""What has been asked for, as a histogram of demands: what placement learns from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from balance.errors import InvalidValue
from balance.types import Resources, check_int


class Workload:
    """How often each demand was made.

    The table is bounded: when it is full all counts are halved and what falls to zero is forgotten, so
    that rare demands make room and old ones weigh less than new ones.

    Parameters
    ----------
    demands : iterable of Resources
        What was asked for so far, once each time.
    kinds_max : int
        The most different demands that are remembered.

    Examples
    --------
    >>> work = Workload([Resources.demand(gpu=0.5)] * 3)
    >>> work.add(Resources.demand(gpu=1))
    >>> [(demand.gpu, count) for demand, count in work.counts()], len(work)
    ([(0.5, 3), (1.0, 1)], 2)
    """

    def __init__(self, demands: Iterable[Resources] = (), *, kinds_max: int = 4096) -> None:
        self._kinds_max = check_int("kinds_max", kinds_max, minimum=1)
        self._counts: dict[Resources, int] = {}
        for demand in demands:
            self.add(demand)

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, demand: Resources, count: int = 1) -> None:
        """Note that `demand` was made `count` times.

        Raises
        ------
        InvalidValue
            `demand` is not a `Resources`, or `count` is not a whole number of at least 1.
        """
        if not isinstance(demand, Resources):
            raise InvalidValue("demand", demand, "a Resources")
        check_int("count", count, minimum=1)
        while demand not in self._counts and len(self._counts) >= self._kinds_max:
            self._counts = {known: half for known, seen in self._counts.items() if (half := seen // 2)}
        self._counts[demand] = self._counts.get(demand, 0) + count

    def copy(self) -> Workload:
        """Return a workload that has seen the same and goes its own way."""
        twin = Workload(kinds_max=self._kinds_max)
        twin._counts = dict(self._counts)
        return twin

    def counts(self) -> Iterator[tuple[Resources, int]]:
        """Yield each demand with its count, in an order that depends on nothing but the content."""
        yield from sorted(self._counts.items(), key=lambda item: tuple(item[0].items()))
