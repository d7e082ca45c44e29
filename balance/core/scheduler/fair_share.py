"""Weighted dominant-resource fairness between tenants, with quotas, limits and lending.

The tenant whose *dominant share* (the largest fraction of any resource that it holds, over its weight)
is smallest goes first (Ghodsi et al., "Dominant Resource Fairness", NSDI 2011).  A tenant that is below
its quota goes before all that are not.  Idle resources are lent simply by not being kept back: whoever
asks while nobody with a smaller share does gets them, and they come back as tasks end, because the
tenant that lent them has the smaller share then.

Ranks are kept in a heap with lazy deletion; a start or an end moves one account: O(log tenants).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import count

from balance.core.scheduler.heaps import in_order
from balance.core.scheduler.lines import Line, LineEntry
from balance.core.scheduler.policy import Tenant
from balance.core.scheduler.shape import Shape
from balance.types import Resources

_STALE_MIN = 8


class Account:
    """What one tenant holds and who of it waits.

    Attributes
    ----------
    held : dict
        Exact amounts by resource name (``cpu``, ``memory``, ``gpu``, custom names).
    running : int
        How many of its tasks run.
    """

    __slots__ = (
        "heap",
        "held",
        "lines",
        "name",
        "quota_dict",
        "rank",
        "running",
        "stale",
        "tenant",
        "ticks",
        "waiting_lines",
    )

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        self.name = tenant.name
        self.held: dict[str, int] = {}
        self.running = 0
        self.lines: dict[Shape, Line] = {}
        self.heap: list[LineEntry] = []
        self.ticks = count()
        self.waiting_lines = 0
        self.stale = 0
        self.rank: tuple[int, float, str, Account] | None = None
        self.quota_dict = dict(tenant.quota.items()) if tenant.quota is not None else None

    def charge(self, shape: Shape, sign: int) -> None:
        """Count `shape` as held (1) or given back (-1)."""
        self.running += sign
        held = self.held
        for name, amount in shape.amounts:
            held[name] = held.get(name, 0) + sign * amount

    def over_limit(self, shape: Shape) -> str | None:
        """Return the resource of which `shape` would take the tenant over its limit; None if it would not."""
        if self.tenant.limit is None:
            return None
        limit = dict(self.tenant.limit.items())
        for name, amount in shape.amounts:
            if self.held.get(name, 0) + amount > limit.get(name, 0):
                return name
        return None

    def below_quota(self) -> bool:
        """Say whether nothing that the tenant was promised is used up."""
        if self.quota_dict is None:
            return False
        return all(self.held.get(name, 0) < amount for name, amount in self.quota_dict.items())

    def post(self, line: Line) -> None:
        """Note that the first of `line` has changed."""
        was = line.posted
        head = line.head()
        if head is None:
            line.posted = None
            if was is not None:
                self.waiting_lines -= 1
                self._staled()
            return
        assert head.entry is not None
        if was is not None and was[0] == head.entry[0] and was[1] == head.entry[1]:
            return
        entry = (head.entry[0], head.entry[1], next(self.ticks), line)
        line.posted = entry
        heapq.heappush(self.heap, entry)
        if was is None:
            self.waiting_lines += 1
        else:
            self._staled()

    def _staled(self) -> None:
        self.stale += 1
        if self.stale > _STALE_MIN and self.stale * 2 > len(self.heap):
            self.heap = [entry for entry in self.heap if entry[3].posted is entry]
            heapq.heapify(self.heap)
            self.stale = 0

    def waiting(self) -> Iterator[Line]:
        """Yield the lines with someone in them, in the order of their first tasks."""
        heap = self.heap
        while heap and heap[0][3].posted is not heap[0]:
            heapq.heappop(heap)
            self.stale -= 1
        for entry in in_order(heap):
            if entry[3].posted is entry:
                yield entry[3]


class FairShare:
    """The accounts of all tenants, in the order in which they may start something.

    Parameters
    ----------
    tenants : iterable of Tenant
        Those with a weight, quota or limit of their own; others are added with weight 1 when they come.

    Examples
    --------
    >>> shares = FairShare([Tenant("a", weight=1), Tenant("b", weight=2)])
    >>> shares.resize(Resources.capacity(cpu=10))
    >>> shape = Shape(Resources.demand(cpu=3))
    >>> for name in ("a", "b"):
    ...     shares.charge(shares.account(name), shape, 1)
    >>> shares.share(shares.account("a")), shares.share(shares.account("b"))
    (0.3, 0.15)
    """

    def __init__(self, tenants: Iterable[Tenant] = ()) -> None:
        self._accounts = {tenant.name: Account(tenant) for tenant in tenants}
        self._heap: list[tuple[int, float, str, Account]] = []
        self._stale = 0
        self._total: dict[str, int] = {}
        self._held: dict[str, int] = {}

    def account(self, name: str) -> Account:
        """Return a tenant's account; a new name opens one with weight 1."""
        account = self._accounts.get(name)
        if account is None:
            account = self._accounts[name] = Account(Tenant(name))
        return account

    def accounts(self) -> Iterable[Account]:
        """Return all accounts."""
        return self._accounts.values()

    def resize(self, total: Resources) -> None:
        """Measure shares against this total from now on; O(tenants)."""
        self._total = dict(total.items())
        for account in self._accounts.values():
            self.refresh(account)

    def share(self, account: Account, extra: Shape | None = None, sign: int = 1) -> float:
        """Return the weighted dominant share, as it is or with `extra` more (or less, `sign` -1)."""
        held = account.held
        if extra is not None:
            held = dict(held)
            for name, amount in extra.amounts:
                held[name] = held.get(name, 0) + sign * amount
        largest = 0.0
        total = self._total
        for name, amount in held.items():
            if amount > 0:
                whole = total.get(name, 0)
                fraction = amount / whole if whole > 0 else 1.0
                largest = max(largest, fraction)
        return largest / account.tenant.weight

    def charge(self, account: Account, shape: Shape, sign: int) -> None:
        """Count `shape` as held (1) or given back (-1) and rank the account anew."""
        account.charge(shape, sign)
        held = self._held
        for name, amount in shape.amounts:
            held[name] = held.get(name, 0) + sign * amount
        self.refresh(account)

    def slots(self, shape: Shape) -> int:
        """Return how many of `shape` fit at most beside what all tenants hold: by the sums, as if all were one room."""
        total, held = self._total, self._held
        free = ((total.get(name, 0) - held.get(name, 0)) // need for name, need in shape.amounts)
        return max(0, min(free, default=1))

    def refresh(self, account: Account) -> None:
        """Rank `account` anew, as something about it has changed."""
        if account.rank is not None:
            account.rank = None
            self._stale += 1
        if account.waiting_lines:
            rank = (0 if account.below_quota() else 1, self.share(account), account.name, account)
            account.rank = rank
            heapq.heappush(self._heap, rank)
        if self._stale > _STALE_MIN and self._stale * 2 > len(self._heap):
            self._heap = [rank for rank in self._heap if rank[3].rank is rank]
            heapq.heapify(self._heap)
            self._stale = 0

    def in_order(self) -> Iterator[Account]:
        """Yield the accounts that have someone waiting, the one to serve first first."""
        heap = self._heap
        while heap and heap[0][3].rank is not heap[0]:
            heapq.heappop(heap)
            self._stale -= 1
        for rank in in_order(heap):
            if rank[3].rank is rank:
                yield rank[3]
