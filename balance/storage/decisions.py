"""What the balancing loop decided, on what view of the world, why, and how it turned out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update

from balance.errors import UnknownId
from balance.storage.schema import decisions
from balance.types import check_id, check_int, check_number

if TYPE_CHECKING:
    from balance.storage.sql import Sql


class DecisionRecords:
    """The decisions, inside one transaction.

    Examples
    --------
    >>> from balance.storage import Store
    >>> store = Store()
    >>> with store.transaction(store.acquire("balancer")) as tx:
    ...     number = tx.decisions.append(10.0, "5f2a", {"actions": [], "reason": "nothing lacks"})
    ...     tx.decisions.set_outcome(number, {"error": 0.0})
    >>> with store.reading() as tx:
    ...     [(row["digest"], row["outcome"]) for row in tx.decisions.latest(5)]
    [('5f2a', {'error': 0.0})]
    """

    def __init__(self, sql: Sql) -> None:
        self._sql = sql

    def append(self, at: float, digest: str, plan: Mapping[str, Any]) -> int:
        """Keep a plan with its reasons.

        Parameters
        ----------
        at : float
            When it was decided, POSIX seconds.
        digest : str
            Of the snapshot that it was decided on.
        plan : dict
            JSON values.

        Returns
        -------
        int
            Its number; later decisions have larger ones.
        """
        row = {"at": check_number("at", at), "digest": check_id("digest", digest), "plan": dict(plan)}
        statement = self._sql.insert(decisions).values(**row).returning(decisions.c.seq)
        return int(self._sql.write(statement).scalar_one())

    def set_outcome(self, seq: int, outcome: Mapping[str, Any]) -> None:
        """Note how decision `seq` turned out; `UnknownId` if there is none."""
        statement = update(decisions).where(decisions.c.seq == seq).values(outcome=dict(outcome))
        if not self._sql.write(statement).rowcount:
            raise UnknownId("decision", str(seq), [str(row["seq"]) for row in self.latest(5)])

    def latest(self, n: int = 1) -> list[dict[str, Any]]:
        """Return the last `n` decisions, newest first: ``seq``, ``at``, ``digest``, ``plan``, ``outcome``."""
        count = check_int("n", n, minimum=0)
        return self._sql.rows(select(decisions).order_by(decisions.c.seq.desc()).limit(count))

    def prune(self, keep: int) -> int:
        """Forget all but the last `keep` decisions and return how many went."""
        oldest_kept = select(decisions.c.seq).order_by(decisions.c.seq.desc()).limit(1).offset(keep)
        return int(self._sql.write(delete(decisions).where(decisions.c.seq <= oldest_kept.scalar_subquery())).rowcount)
