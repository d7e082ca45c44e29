"""What happened in a simulation: every task, every attempt, the cluster's capacity; and what follows from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from balance.core.scheduler.states import State
from balance.simulation.measures import Floats, Steps, mean, quantiles, steps, value_at
from balance.simulation.records import STATES, Outcome, Records
from balance.types import MILLI

Ints = npt.NDArray[np.int64]
RESOURCES = ("cpu", "memory", "gpu")


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A simulation that is over.  All times are seconds since its beginning; NaN where nothing happened.

    Attributes
    ----------
    task_ids, tenants, nodes : tuple of str
        Names; the columns hold their indices.
    submitted, eligible, started, finished : array of float, one per task
        When it was submitted, could first have run, first ran, was over.
    priority, tenant, node, attempts, state : array of int, one per task
        `node` is that of the last attempt (-1 for none); `state` an index into `STATES`.
    demand : array of int, tasks x 3
        Thousandths of cores, bytes, thousandths of devices.
    attempt_task, attempt_node, attempt_outcome : array of int, one per attempt, in the order of their beginnings
    attempt_begun, attempt_ended : array of float
    capacity_at, capacity : arrays, moments and moments x 3
        What the cluster had, in the units of `demand`.
    end_s : float
        When the simulation ended.
    decisions : int
        How many attempts the scheduler started.
    engine_s : float
        Real seconds that the scheduler's own code took; not part of the digest.
    """

    task_ids: tuple[str, ...]
    tenants: tuple[str, ...]
    nodes: tuple[str, ...]
    submitted: Floats
    eligible: Floats
    started: Floats
    finished: Floats
    priority: Ints
    tenant: Ints
    node: Ints
    attempts: Ints
    state: Ints
    demand: Ints
    attempt_task: Ints
    attempt_node: Ints
    attempt_outcome: Ints
    attempt_begun: Floats
    attempt_ended: Floats
    capacity_at: Floats
    capacity: Ints
    end_s: float
    decisions: int
    engine_s: float

    @classmethod
    def of(cls, records: Records, *, end_s: float, decisions: int, engine_s: float) -> History:
        """Return the history of what was written down; O(tasks + attempts)."""
        count = len(records.task_ids)
        task = np.array(records.attempt_task, dtype=np.int64)
        begun = np.array(records.attempt_begun)
        node = np.full(count, -1, dtype=np.int64)
        node[task] = records.attempt_node  # later attempts overwrite earlier ones
        started = np.full(count, np.nan)
        started[task[::-1]] = begun[::-1]
        return cls(
            task_ids=tuple(records.task_ids),
            tenants=tuple(records.tenants),
            nodes=tuple(records.nodes),
            submitted=np.array(records.submitted),
            eligible=np.array(records.eligible),
            started=started,
            finished=np.array(records.finished),
            priority=np.array(records.priority, dtype=np.int64),
            tenant=np.array(records.tenant, dtype=np.int64),
            node=node,
            attempts=np.bincount(task, minlength=count).astype(np.int64),
            state=np.array(records.state, dtype=np.int64),
            demand=np.array(records.demand, dtype=np.int64).reshape(-1, 3),
            attempt_task=task,
            attempt_node=np.array(records.attempt_node, dtype=np.int64),
            attempt_outcome=np.array(records.attempt_outcome, dtype=np.int64),
            attempt_begun=begun,
            attempt_ended=np.array(records.attempt_ended),
            capacity_at=np.array(records.capacity_at),
            capacity=np.array(records.capacity, dtype=np.int64).reshape(-1, 3),
            end_s=end_s,
            decisions=decisions,
            engine_s=engine_s,
        )

    # ------------------------------------------------------------------ over time

    def held(self, resource: str, tenant: str | None = None) -> Steps:
        """Return how much of a resource running attempts held, in thousandths or bytes, over time."""
        weight = self.demand[self.attempt_task, RESOURCES.index(resource)]
        mine = np.ones(len(weight), dtype=bool)
        if tenant is not None:
            mine = self.tenant[self.attempt_task] == self.tenants.index(tenant)
        moments = np.concatenate((self.attempt_begun[mine], self.attempt_ended[mine]))
        return steps(moments, np.concatenate((weight[mine], -weight[mine])))

    def utilisation(self, resource: str, tenant: str | None = None) -> Steps:
        """Return the fraction of a resource's capacity that was held, over time; 0 where there was none."""
        held = self.held(resource, tenant)
        total = (self.capacity_at, self.capacity[:, RESOURCES.index(resource)].astype(float))
        moments = np.union1d(held[0], total[0])
        whole = value_at(total, moments)
        return moments, np.divide(value_at(held, moments), whole, out=np.zeros(len(moments)), where=whole > 0)

    def mean_utilisation(self, resource: str, begin: float = 0.0, end: float | None = None) -> float:
        """Return the mean utilisation of a resource in a window, by default from beginning to end."""
        return mean(self.utilisation(resource), begin, self.end_s if end is None else end)

    def queue_length(self, priority: int | None = None) -> Steps:
        """Return how many tasks (of one priority) could have run and did not, over time."""
        mine = np.ones(len(self.submitted), dtype=bool) if priority is None else self.priority == priority
        attempts = mine[self.attempt_task]
        up = (self.eligible[mine], self.attempt_ended[attempts])
        down = (self.attempt_begun[attempts], self.finished[mine & ~np.isnan(self.eligible)])
        signs = [np.full(len(part), sign) for parts, sign in ((up, 1), (down, -1)) for part in parts]
        return steps(np.concatenate((*up, *down)), np.concatenate(signs))

    # ------------------------------------------------------------------ in numbers

    def dominant_shares(self, begin: float = 0.0, end: float | None = None) -> dict[str, float]:
        """Return each tenant's mean dominant share in a window: of what it held most of, the fraction."""
        until = self.end_s if end is None else end
        return {
            tenant: max(mean(self.utilisation(resource, tenant), begin, until) for resource in RESOURCES)
            for tenant in sorted(self.tenants)
        }

    def waits(self) -> dict[int, dict[str, Any]]:
        """Return by priority ``count, p50_s, p95_s, p99_s, max_s`` of the waits of those that have started.

        A wait goes from the moment at which the task could first have run to that at which it first did.
        """
        wait_s = self.started - self.eligible
        known = ~np.isnan(wait_s)
        return {int(level): quantiles(wait_s[known & (self.priority == level)]) for level in np.unique(self.priority)}

    def lost_work(self) -> dict[str, float]:
        """Return what was run in vain: ``attempts``, ``core_s`` (core-seconds) and ``gpu_s`` (device-seconds)."""
        vain = (self.attempt_outcome == Outcome.STOPPED) | (self.attempt_outcome == Outcome.LOST)
        ran = (self.attempt_ended - self.attempt_begun)[vain]
        demand = self.demand[self.attempt_task[vain]]
        return {
            "attempts": int(vain.sum()),
            "core_s": float(ran @ demand[:, 0]) / MILLI,
            "gpu_s": float(ran @ demand[:, 2]) / MILLI,
        }

    def in_state(self, state: State) -> int:
        """Return how many tasks ended in `state`."""
        return int((self.state == STATES.index(state)).sum())

    @property
    def makespan_s(self) -> float:
        """When the last task was over; NaN if none was."""
        return float(np.nanmax(self.finished)) if (~np.isnan(self.finished)).any() else float("nan")

    def digest(self) -> str:
        """Return a hash of everything that happened, but for how long the scheduler took over it."""
        sha = hashlib.sha256()
        for name in self.__slots__:
            value = getattr(self, name)
            if name != "engine_s":
                sha.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
        return sha.hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON values.

        Returns
        -------
        dict
            ``tasks``, ``nodes`` (that were used), ``decisions`` (counts), ``states`` (count by state), ``end_s``,
            ``makespan_s``, ``utilisation`` (mean fraction by resource that there is), ``shares`` (mean
            dominant share by tenant), ``waits`` (by priority, see `waits`), ``queue_max``, ``lost_work``
            (see there), ``engine_s``, ``decisions_per_s`` (None where it was not measured), ``digest``.
        """
        queue = self.queue_length()[1]
        there = [name for column, name in enumerate(RESOURCES) if self.capacity[:, column].any()]
        return {
            "tasks": len(self.task_ids),
            "nodes": len(self.nodes),
            "decisions": self.decisions,
            "states": {str(state): count for state in STATES if (count := self.in_state(state))},
            "end_s": self.end_s,
            "makespan_s": None if np.isnan(self.makespan_s) else self.makespan_s,
            "utilisation": {name: self.mean_utilisation(name, 0.0, self.end_s) for name in there},
            "shares": self.dominant_shares(),
            "waits": {str(level): row for level, row in self.waits().items()},
            "queue_max": int(queue.max()) if len(queue) else 0,
            "lost_work": self.lost_work(),
            "engine_s": self.engine_s,
            "decisions_per_s": self.decisions / self.engine_s if self.engine_s > 0 else None,
            "digest": self.digest(),
        }

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield ``task_id, tenant, priority, state, submitted, eligible, started, finished, node, attempts``."""
        for number, task_id in enumerate(self.task_ids):
            node = int(self.node[number])
            yield (
                task_id,
                self.tenants[int(self.tenant[number])],
                int(self.priority[number]),
                str(STATES[int(self.state[number])]),
                *(float(column[number]) for column in (self.submitted, self.eligible, self.started, self.finished)),
                self.nodes[node] if node >= 0 else "",
                int(self.attempts[number]),
            )
