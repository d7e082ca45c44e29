"""A simulated cluster: what nodes there are, and which come and go when."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from balance.core.scheduler.events import Event, NodeJoined, NodeLost
from balance.errors import InvalidValue
from balance.types import Resources, check_int, check_number

NODES_MAX = 100_000
_GROUP = re.compile(r"(?:(\d+)x)?((?:\d+(?:\.\d+)?[a-z]+)+)", re.IGNORECASE)
_PART = re.compile(r"(\d+(?:\.\d+)?)([a-z]+)", re.IGNORECASE)
_BYTES = {"mib": 2**20, "gib": 2**30, "tib": 2**40, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_EXPECTED = "groups such as '100x8cpu64gib,20x8cpu64gib4gpu': count, x, cores, memory, devices"


@dataclass(frozen=True, slots=True)
class Change:
    """A node that joins (`capacity` given) or is lost (None) at a moment, in seconds since the beginning."""

    at_s: float
    node_id: str
    capacity: Resources | None

    def event(self) -> Event:
        """Return the fact that the scheduler is told."""
        if self.capacity is None:
            return NodeLost(self.node_id)
        return NodeJoined(self.node_id, self.capacity, limit=self.capacity)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Nodes and what happens to them.

    Attributes
    ----------
    nodes : tuple of (str, Resources)
        Those that are there from the beginning.
    changes : tuple of Change
        What happens later, in order of time.

    Examples
    --------
    >>> cluster = Cluster.parse("2x8cpu64gib,1x4cpu2gpu")
    >>> [(name, node.cpu, node.gpu) for name, node in cluster.nodes]
    [('n0', 8.0, 0.0), ('n1', 8.0, 0.0), ('n2', 4.0, 2.0)]
    """

    nodes: tuple[tuple[str, Resources], ...]
    changes: tuple[Change, ...] = ()

    def __post_init__(self) -> None:
        if not self.nodes and not any(change.capacity for change in self.changes):
            raise InvalidValue("nodes", self.nodes, "at least one node, or one that joins later")
        times = [change.at_s for change in self.changes]
        if times != sorted(times):
            raise InvalidValue("changes", "not in order of time", "changes in order of time")

    @classmethod
    def of(cls, *groups: tuple[int, Resources]) -> Cluster:
        """Return ``(count, capacity)`` groups of equal nodes, named so that their names sort as they stand."""
        total = sum(check_int("count", count, minimum=1) for count, _ in groups)
        if total > NODES_MAX:
            raise InvalidValue("nodes", total, f"at most {NODES_MAX:,} nodes")
        width = len(str(total - 1)) if total else 1
        shapes = (capacity for count, capacity in groups for _ in range(count))
        return cls(tuple((f"n{number:0{width}}", capacity) for number, capacity in enumerate(shapes)))

    @classmethod
    def parse(cls, text: str) -> Cluster:
        """Read groups written as ``100x8cpu64gib,20x8cpu4gpu``; `InvalidValue` says what was expected.

        Units: ``cpu``, ``gpu``, and of memory ``mib gib tib mb gb tb``.
        """
        groups: list[tuple[int, Resources]] = []
        for word in text.replace(" ", "").split(","):
            found = _GROUP.fullmatch(word)
            if found is None:
                raise InvalidValue("nodes", word or text, _EXPECTED)
            amounts = {"cpu": 0.0, "memory": 0.0, "gpu": 0.0}
            for number, unit in _PART.findall(found[2]):
                name = unit.lower() if unit.lower() in {"cpu", "gpu"} else "memory"
                if (name == "memory" and unit.lower() not in _BYTES) or amounts[name]:
                    raise InvalidValue("nodes", word, _EXPECTED)
                amounts[name] = float(number) * _BYTES.get(unit.lower(), 1)
            groups.append(
                (
                    check_int("count", int(found[1] or 1), minimum=1),
                    Resources.capacity(amounts["cpu"], amounts["memory"], amounts["gpu"]),
                )
            )
        return cls.of(*groups)

    def failing(self, *, mtbf_s: float, repair_s: float, until_s: float, seed: int = 0) -> Cluster:
        """Return this cluster with nodes that break down at random and come back.

        Parameters
        ----------
        mtbf_s : float
            The mean time between a node's repair and its next failure, in seconds (exponential).
        repair_s : float
            The mean time until it is back, in seconds (exponential).
        until_s : float
            No failure begins after this moment.
        seed : int
            The same seed breaks the same nodes.
        """
        from numpy.random import default_rng  # noqa: PLC0415 (importing the package stays cheap)

        for name, value in (("mtbf_s", mtbf_s), ("repair_s", repair_s)):
            if check_number(name, value, minimum=0) == 0:
                raise InvalidValue(name, value, "more than 0 seconds")
        rng = default_rng(seed)
        changes = list(self.changes)
        for node_id, capacity in self.nodes:
            now = float(rng.exponential(mtbf_s))
            while now < until_s:
                changes.append(Change(now, node_id, None))
                now += float(rng.exponential(repair_s))
                changes.append(Change(now, node_id, capacity))
                now += float(rng.exponential(mtbf_s))
        return Cluster(self.nodes, tuple(sorted(changes, key=lambda change: (change.at_s, change.node_id))))

    def events(self) -> Iterator[Event]:
        """Yield the facts with which the simulation begins."""
        for node_id, capacity in self.nodes:
            yield NodeJoined(node_id, capacity)
