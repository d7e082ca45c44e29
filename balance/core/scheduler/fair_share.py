"""Weighted dominant-resource fairness between tenants, over time, with quotas, limits and lending.

A tenant's *dominant share* is the largest fraction of any resource that it holds, over its weight (Ghodsi et
al., "Dominant Resource Fairness", NSDI 2011).  Serving whoever's is smallest at the moment is fair where
there is room for many tasks, but not where there is room for few: on two devices, tenants of weights 1, 2
and 4 would get a third each.  So what counts is the share *over time*: each tenant has a **virtual time**
that advances by its share, second by second, while anyone waits, and the one that is behind goes first
(Ghodsi et al., "Multi-Resource Fair Queueing", SIGCOMM 2012).  In the long run all advance alike, which is
to say that the shares follow the weights.  To this the share of the moment is added for as long as tasks
usually hold what they get (the **horizon**), as it will have been used by then: so rooms that become free at the
same moment are shared out, rather than given to whoever was behind.

A tenant that begins to wait starts where those are who wait already: it is owed nothing for the time in
which it wanted nothing.  One that waits for what nobody gives back (a device, while others take turns on
cores) falls behind by `CLAIM_S` at most.  A tenant that is below its quota goes before all that are not.
Idle resources are lent simply by not being kept back: whoever asks while nobody is behind it gets them, and
they come back as tasks end.

Ranks are kept in a heap with lazy deletion.  Virtual times only grow, so an old key is a lower bound, and
only who comes up first by it is looked at again: O(log tenants) amortised.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

from balance.core.scheduler.heaps import in_order
from balance.core.scheduler.lines import Line, LineEntry
from balance.core.scheduler.policy import Tenant
from balance.core.scheduler.shape import Shape
from balance.types import Resources

CLAIM_S = 600.0
"""How far, in seconds of the whole cluster over its weight, a tenant's claim on what it could not use goes back."""

_HORIZON_S = 1.0  # before anything was measured
_HORIZON_MIN_S = 1e-3
_HORIZON_GAIN = 1 / 32
_STALE_MIN = 8

Rank = tuple[int, float, str, "Account"]  # 0 below the quota, else 1; the virtual time with the horizon; name


class Account:
    """What one tenant holds and who of it waits.

    Attributes
    ----------
    held : dict
        Exact amounts by resource name (``cpu``, ``memory``, ``gpu``, custom names).
    running : int
        How many of its tasks run.
    served, since : float
        Its virtual time, in seconds, and when on the common clock that was so.
    rate : float
        Its dominant share over its weight: how fast its virtual time grows.
    """

    __slots__ = (
        "claim_s",
        "heap",
        "held",
        "limit_dict",
        "lines",
        "name",
        "quota_dict",
        "rank",
        "rate",
        "running",
        "served",
        "since",
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
        self.rank: Rank | None = None
        self.served = self.since = self.rate = 0.0
        self.claim_s = CLAIM_S / tenant.weight
        self.limit_dict = dict(tenant.limit.items()) if tenant.limit is not None else None
        self.quota_dict = dict(tenant.quota.items()) if tenant.quota is not None else None

    def charge(self, shape: Shape, sign: int) -> None:
        """Count `shape` as held (1) or given back (-1)."""
        self.running += sign
        held = self.held
        for name, amount in shape.amounts:
            held[name] = held.get(name, 0) + sign * amount

    def over_limit(self, shape: Shape) -> str | None:
        """Return the resource of which `shape` would take the tenant over its limit; None if it would not."""
        limit = self.limit_dict
        if limit is None:
            return None
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
    ...     shares.take(shares.account(name), shape)
    >>> shares.share(shares.account("a")), shares.share(shares.account("b"))
    (0.3, 0.15)
    """

    def __init__(self, tenants: Iterable[Tenant] = ()) -> None:
        self._accounts = {tenant.name: Account(tenant) for tenant in tenants}
        self._heap: list[Rank] = []
        self._stale = 0
        self._waiting = 0
        self._now = 0.0
        self._clock = 0.0  # seconds in which someone waited
        self._level = 0.0  # the virtual time of who was served last
        self._horizon_s = _HORIZON_S
        self._held_s = (_HORIZON_S, _HORIZON_S**2)  # means of how long something was held, and of its square
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

    def advance(self, now: float) -> None:
        """Let time pass, until `now` in POSIX seconds."""
        if self._waiting:
            self._clock += now - self._now
        self._now = now

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

    def slots(self, shape: Shape) -> int:
        """Return how many of `shape` fit at most beside what all tenants hold: by the sums, as if all were one room."""
        total, held = self._total, self._held
        free = ((total.get(name, 0) - held.get(name, 0)) // need for name, need in shape.amounts)
        return max(0, min(free, default=1))

    def take(self, account: Account, shape: Shape) -> None:
        """Count `shape` as held and rank the account anew."""
        self._fold(account)
        self._level = max(self._level, account.served)
        self._charge(account, shape, 1)

    def give_back(self, account: Account, shape: Shape, held_s: float) -> None:
        """Count `shape`, held for so many seconds, as given back and rank the account anew."""
        mean, square = self._held_s
        mean += _HORIZON_GAIN * (held_s - mean)
        square += _HORIZON_GAIN * (held_s * held_s - square)
        self._held_s = (mean, square)
        # How long that is held which one meets at a random moment: long holds are met more often.
        horizon_s = square / mean if mean > 0 else 0.0
        if not self._horizon_s / 2 <= horizon_s <= self._horizon_s * 2:
            self._horizon_s = max(horizon_s, _HORIZON_MIN_S)
            self._rank_all()
        self._charge(account, shape, -1)

    def _charge(self, account: Account, shape: Shape, sign: int) -> None:
        account.charge(shape, sign)
        held = self._held
        for name, amount in shape.amounts:
            held[name] = held.get(name, 0) + sign * amount
        self.refresh(account)

    def refresh(self, account: Account) -> None:
        """Rank `account` anew, as something about it has changed."""
        self._fold(account)
        account.rate = self.share(account)
        if account.rank is not None:
            account.rank = None
            self._waiting -= 1
            self._stale += 1
        elif account.waiting_lines:
            account.served = max(account.served, self._level_of_waiting())
        if account.waiting_lines:
            self._waiting += 1
            account.rank = self._rank(account)
            heapq.heappush(self._heap, account.rank)
        if self._stale > _STALE_MIN and self._stale * 2 > len(self._heap):
            self._heap = [rank for rank in self._heap if rank[3].rank is rank]
            heapq.heapify(self._heap)
            self._stale = 0

    def in_order(self) -> Iterator[Account]:
        """Yield the accounts that have someone waiting, the one to serve first first."""
        first = self._first()
        if first is None:
            return
        yield first
        # The keys of the others are lower bounds: who comes up by them is held until nobody can be before it.
        held: list[Rank] = []
        for rank in in_order(self._heap):
            account = rank[3]
            if account.rank is not rank or account is first:
                continue
            while held and held[0] <= rank:
                yield heapq.heappop(held)[3]
            heapq.heappush(held, self._rank(account))
        while held:
            yield heapq.heappop(held)[3]

    def _first(self) -> Account | None:
        """Return who is to be served first, having brought the ranks of all who might be up to date."""
        heap = self._heap
        while heap:
            rank = heap[0]
            account = rank[3]
            if account.rank is not rank:
                heapq.heappop(heap)
                self._stale -= 1
                continue
            now = self._rank(account)
            if now == rank:
                return account
            account.rank = now
            heapq.heapreplace(heap, now)
        return None

    def _rank(self, account: Account) -> Rank:
        key = self._virtual(account) + account.rate * self._horizon_s
        return (0 if account.below_quota() else 1, key, account.name, account)

    def _virtual(self, account: Account) -> float:
        """Return the account's virtual time, in seconds."""
        virtual = account.served + (self._clock - account.since) * account.rate
        least = self._level - account.claim_s
        return virtual if virtual > least else least

    def _fold(self, account: Account) -> None:
        account.served = self._virtual(account)
        account.since = self._clock

    def _level_of_waiting(self) -> float:
        first = self._first()
        return self._level if first is None else max(self._level, self._virtual(first))

    def snapshot(self) -> dict[str, Any]:
        """Return ``clock``, ``level``, ``horizon_s``, ``held_s``, and ``[served, since]`` by tenant, all in seconds."""
        rows = {account.name: [account.served, account.since] for account in self._accounts.values()}
        return {
            "clock": self._clock,
            "level": self._level,
            "horizon_s": self._horizon_s,
            "held_s": list(self._held_s),
            "accounts": rows,
        }

    def restore(self, data: Mapping[str, Any], now: float) -> None:
        """Go on from what `snapshot` returned at `now`, once all holds and lines are there again."""
        self._now, self._clock, self._level = now, data["clock"], data["level"]
        self._horizon_s, self._held_s = data["horizon_s"], tuple(data["held_s"])
        for name, (served, since) in data["accounts"].items():
            account = self.account(name)
            account.served, account.since = served, since
        self._rank_all()

    def _rank_all(self) -> None:
        for account in self._accounts.values():
            if account.rank is not None:
                account.rank = self._rank(account)
        self._heap = [account.rank for account in self._accounts.values() if account.rank is not None]
        heapq.heapify(self._heap)
        self._stale = 0
