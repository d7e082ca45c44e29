"""Every request that was accepted, what became of it, and the law that none gets lost.

``accepted = completed + failed + dead_lettered + in_flight`` is checked, not assumed: the left side and
each outcome are counters of their own, bumped in the transaction that changed the rows, and the right
side is counted from the rows.  A row that vanished, came back to life or was finished twice breaks it.

Invariants: a request id is accepted once; a request finishes at most once, and its first outcome stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, case, delete, func, select, update

from balance.errors import InvalidValue, UnknownId
from balance.storage.schema import counters, requests
from balance.storage.sql import chunked, completed_row
from balance.types import check_id, check_priority

if TYPE_CHECKING:
    from balance.storage.sql import Sql

#: The ways in which a request can end.
OUTCOMES = ("completed", "failed", "dead_lettered")

_NEW: dict[str, Any] = {
    "request_id": None,
    "model_id": None,
    "key": None,
    "priority": 5,
    "accepted_at": None,
    "payload": None,
}
_END: dict[str, Any] = {
    "request_id": None,
    "state": None,
    "finished_at": None,
    "executed_as": None,
    "outcome": None,
}


@dataclass(frozen=True, slots=True)
class Conservation:
    """The account of all requests ever accepted.

    Attributes
    ----------
    accepted, completed, failed, dead_lettered, in_flight : int
        How many requests; `accepted` from its own counter, the others from the rows (and, for rows that
        were pruned since, from what was noted then).
    holds : bool
        Whether the sum is right, and each outcome has as many rows as were ever finished with it.
    """

    accepted: int
    completed: int
    failed: int
    dead_lettered: int
    in_flight: int
    holds: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as a dict of JSON values."""
        return asdict(self)


class RequestRecords:
    """The requests, inside one transaction.

    Examples
    --------
    >>> from balance.storage import Store
    >>> store = Store()
    >>> with store.transaction(store.acquire("batches")) as tx:
    ...     tx.requests.accept([{"request_id": "r1", "model_id": "m"}, {"request_id": "r2", "model_id": "m"}])
    ...     tx.requests.accept([{"request_id": "r1", "model_id": "m"}])
    ...     tx.requests.finish([{"request_id": "r1", "state": "completed", "outcome": {"answer": 42}}])
    ['r1', 'r2']
    []
    ['r1']
    >>> store.conservation()
    {'accepted': 2, 'completed': 1, 'failed': 0, 'dead_lettered': 0, 'in_flight': 1, 'holds': True}
    """

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    def accept(self, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        """Take requests in; one whose id was accepted before is left as it is.

        Parameters
        ----------
        rows : iterable of dict
            ``request_id`` and ``model_id``, and any of ``key`` (what equal requests share), ``priority``,
            ``accepted_at`` (POSIX seconds), ``payload`` (JSON).

        Returns
        -------
        list of str
            The ids that were new, in the order of `rows`.
        """
        now = self._sql.clock.wall()
        whole: dict[str, dict[str, Any]] = {}
        for row in rows:
            request = completed_row(row, _NEW)
            check_id("model_id", request["model_id"])
            check_priority(request["priority"])
            if request["accepted_at"] is None:
                request["accepted_at"] = now
            whole.setdefault(check_id("request_id", request["request_id"]), {**request, "state": "accepted"})
        if not whole:
            return []
        statement = (
            self._sql.insert(requests)
            .on_conflict_do_nothing(index_elements=["request_id"])
            .returning(requests.c.request_id)
        )
        new = set(self._sql.write(statement, list(whole.values())).scalars())
        self._bump("accepted", len(new))
        return [request_id for request_id in whole if request_id in new]

    def assign(self, request_ids: Iterable[str], task_id: str) -> None:
        """Note which task works on these requests; those that finished already are left as they are."""
        check_id("task_id", task_id)
        for some in chunked(request_ids):
            in_flight = requests.c.request_id.in_(some) & (requests.c.state == "accepted")
            self._sql.write(update(requests).where(in_flight).values(task_id=task_id))

    def finish(self, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        """Give requests their outcome; one that has an outcome already keeps it.

        Parameters
        ----------
        rows : iterable of dict
            ``request_id`` and ``state`` (`OUTCOMES`), and any of ``finished_at`` (POSIX seconds),
            ``executed_as`` (the id of the request that ran for it; its own where left out), ``outcome`` (JSON).

        Returns
        -------
        list of str
            The ids that finished now, in the order of `rows`.

        Raises
        ------
        UnknownId
            A request that was never accepted: nothing is written then.
        """
        ends: dict[str, dict[str, Any]] = {}
        now = self._sql.clock.wall()
        for row in rows:
            end = completed_row(row, _END)
            request_id = check_id("request_id", end.pop("request_id"))
            if end["state"] not in OUTCOMES:
                raise InvalidValue("state", end["state"], " or ".join(OUTCOMES))
            end["finished_at"] = now if end["finished_at"] is None else end["finished_at"]
            end["executed_as"] = end["executed_as"] or request_id
            ends.setdefault(request_id, {**end, "the_request": request_id})
        states = self._states(list(ends))
        unknown = next((request_id for request_id in ends if request_id not in states), None)
        if unknown is not None:
            raise UnknownId("request", unknown, self._sql.read(select(requests.c.request_id).limit(1000)).scalars())
        open_ends = [end for request_id, end in ends.items() if states[request_id] == "accepted"]
        if open_ends:
            statement = (
                update(requests)
                .where(requests.c.request_id == bindparam("the_request"))
                .values({column: bindparam(column) for column in _END if column != "request_id"})
            )
            self._sql.write(statement, open_ends)
            for outcome in OUTCOMES:
                self._bump(outcome, sum(end["state"] == outcome for end in open_ends))
        return [end["the_request"] for end in open_ends]

    def _states(self, ids: list[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for some in chunked(ids):
            # Locked, so that on PostgreSQL no other transaction finishes the same request in between.
            query = select(requests.c.request_id, requests.c.state).where(requests.c.request_id.in_(some))
            found.update((row.request_id, row.state) for row in self._sql.read(query.with_for_update()))
        return found

    def _bump(self, name: str, by: int) -> None:
        if by:
            statement = self._sql.insert(counters).values(name=f"requests.{name}", value=by)
            self._sql.write(
                statement.on_conflict_do_update(
                    index_elements=["name"], set_={"value": counters.c.value + statement.excluded.value}
                )
            )

    def get(self, request_id: str) -> dict[str, Any] | None:
        """Return the row with all its columns, or None."""
        found = self._sql.rows(select(requests).where(requests.c.request_id == request_id))
        return found[0] if found else None

    def unfinished(self) -> list[dict[str, Any]]:
        """Return every request in flight, in the order of acceptance."""
        return self._sql.rows(select(requests).where(requests.c.state == "accepted").order_by(requests.c.seq))

    def conservation(self) -> dict[str, Any]:
        """Check that no request got lost or was answered twice.

        Returns
        -------
        dict
            ``accepted``, ``completed``, ``failed``, ``dead_lettered``, ``in_flight`` (requests) and
            ``holds`` (bool); see `Conservation`.
        """
        rows: dict[str, int] = {
            state: int(count)
            for state, count in self._sql.read(select(requests.c.state, func.count()).group_by(requests.c.state))
        }
        found = self._sql.read(select(counters.c.name, counters.c.value).where(counters.c.name.like("requests.%")))
        noted = {name.removeprefix("requests."): int(value) for name, value in found}
        ended = {state: rows.get(state, 0) + noted.get(f"pruned.{state}", 0) for state in OUTCOMES}
        accepted, in_flight = noted.get("accepted", 0), rows.get("accepted", 0)
        holds = accepted == sum(ended.values()) + in_flight and all(
            ended[state] == noted.get(state, 0) for state in OUTCOMES
        )
        return Conservation(accepted, **ended, in_flight=in_flight, holds=holds).to_dict()

    def counts_by_model(self) -> dict[str, dict[str, int]]:
        """Return for each model how many requests it has in each state, and how many of them really ran.

        Returns
        -------
        dict
            Model id to ``accepted`` (all rows), ``completed``, ``failed``, ``dead_lettered``, ``in_flight``
            and ``executed`` (finished under their own id: the others were merged into one of these).
        """
        own = requests.c.executed_as == requests.c.request_id
        query = select(requests.c.model_id, requests.c.state, func.count(), func.sum(case((own, 1), else_=0))).group_by(
            requests.c.model_id, requests.c.state
        )
        out: dict[str, dict[str, int]] = {}
        for model_id, state, count, executed in self._sql.read(query.order_by(requests.c.model_id)):
            empty = dict.fromkeys(("accepted", *OUTCOMES, "in_flight", "executed"), 0)
            entry = out.setdefault(model_id, empty)
            entry["in_flight" if state == "accepted" else state] = int(count)
            entry["accepted"] += int(count)
            entry["executed"] += int(executed)
        return out

    def latencies(
        self, *, since: float | None = None, model_id: str | None = None, state: str = "completed", limit: int = 100_000
    ) -> list[dict[str, Any]]:
        """Return how long finished requests took, the latest `limit`, oldest first.

        Parameters
        ----------
        since : float, optional
            Only those that finished at or after this moment (POSIX seconds).
        model_id : str, optional
            Only those of this model.
        state : str, default "completed"
            Only those with this outcome.

        Returns
        -------
        list of dict
            ``request_id``, ``model_id``, ``priority``, ``accepted_at``, ``finished_at`` (POSIX seconds),
            ``latency_s`` and ``executed_as``.
        """
        columns = ("request_id", "model_id", "priority", "accepted_at", "finished_at", "executed_as")
        query = select(*(requests.c[name] for name in columns)).where(requests.c.state == state)
        if since is not None:
            query = query.where(requests.c.finished_at >= since)
        if model_id is not None:
            query = query.where(requests.c.model_id == model_id)
        newest_first = query.order_by(requests.c.finished_at.desc(), requests.c.seq.desc()).limit(limit)
        rows = self._sql.rows(newest_first)[::-1]
        return [{**row, "latency_s": row["finished_at"] - row["accepted_at"]} for row in rows]

    def prune(self, before: float) -> int:
        """Forget requests that finished before `before` (POSIX seconds), but not that they were.

        A forgotten id that arrives again counts as new, so keep them longer than messages are redelivered.

        Returns
        -------
        int
            How many rows went.
        """
        old = requests.c.finished_at < before
        per_state = self._sql.read(select(requests.c.state, func.count()).where(old).group_by(requests.c.state)).all()
        for state, count in per_state:
            self._bump(f"pruned.{state}", int(count))
        return int(self._sql.write(delete(requests).where(old)).rowcount)
