"""Weighted dominant-resource fairness between tenants, with quotas, limits and lending.

A tenant's *dominant share* is the largest fraction of any resource that it holds, over its weight
(Ghodsi et al., "Dominant Resource Fairness", NSDI 2011).  The tenant goes first that has been served
least: by the share that it has held so far, added up over time, and the share that it holds now, counted
as if it kept it for as long as tasks usually hold theirs.  The second term alone is the original rule;
but shares come in pieces, and where two tasks fill the cluster that rule lets two of three tenants take
turns for ever and starves the third.  The first term evens out over time what the pieces do not allow at
any moment (start-time fair queueing: Goyal, Vin & Cheng, SIGCOMM 1996).

A tenant that is below its quota goes before all that are not.  Idle resources are lent simply by not
being kept back: whoever asks while nobody is before it gets them.  Who comes back from idleness starts as
far behind the others as its share is worth, and so has it back when their tasks end: it is owed nothing
for the time in which it wanted nothing, and they owe nothing for what they borrowed.

Ranks are kept in a heap with lazy deletion; a start or an end moves one account: O(log tenants).  Ranks
only grow with time, so the first is brought up to date until it stays the first.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import Any

from balance.core.scheduler.heaps import in_order
from balance.core.scheduler.lines import Line, LineEntry
from balance.core.scheduler.policy import Tenant
from balance.core.scheduler.shape import Shape
from balance.types import Resources

_STALE_MIN = 8
_ENDS_MIN = 64.0  # ends after which older ones begin to be forgotten
_DRIFT = 1.25  # by what factor the usual hold has to change before everyone is ranked anew
_OWED_MAX = 10.0  # usual holds: who waits for longer (for its limit, for a large room) is owed no more


class Account:
    """What one tenant holds and who of it waits.

    Attributes
    ----------
    held : dict
        Exact amounts by resource name (``cpu``, ``memory``, ``gpu``, custom names).
    running : int
        How many of its tasks run.
    level : float
        Its weighted dominant share.
    served : float
        Its level added up over time until `settled_at`, in seconds.
    active : bool
        Whether anything of it runs or waits.
    busy_s, ends : float
        Seconds of holding and number of holds that ended, the latest counting most.
    """

    __slots__ = (
        "active",
        "busy_s",
        "ends",
        "heap",
        "held",
        "level",
        "lines",
        "name",
        "quota_dict",
        "rank",
        "running",
        "served",
        "settled_at",
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
        self.level = self.served = self.settled_at = 0.0
        self.busy_s = self.ends = 0.0
        self.active = False
        self.lines: dict[Shape, Line] = {}
        self.heap: list[LineEntry] = []
        self.ticks = count()
        self.waiting_lines = 0
        self.stale = 0
        self.rank: tuple[int, float, str, Account] | None = None
        self.quota_dict = dict(tenant.quota.items()) if tenant.quota is not None else None

    def settle(self, now: float) -> None:
        """Add up what has been held until `now`."""
        passed_s = now - self.settled_at
        if passed_s > 0:
            self.served += self.level * passed_s
            self.busy_s += self.running * passed_s
        self.settled_at = now

    def hold_s(self) -> float:
        """Return how long a task of this tenant usually holds what it holds, in seconds; 0 if none has.

        By Little's law, what runs now counting as half over.
        """
        return self.busy_s / (self.ends + self.running / 2) if self.ends else 0.0

    def charge(self, shape: Shape, sign: int) -> None:
        """Count `shape` as held (1) or given back (-1)."""
        self.running += sign
        if sign < 0:
            self.ends += 1
            if self.ends > _ENDS_MIN + 4 * self.running:
                self.ends, self.busy_s = self.ends / 2, self.busy_s / 2
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
    now : callable, optional
        Returns the moment up to which what is held is added up, in seconds; it never goes back.

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

    def __init__(self, tenants: Iterable[Tenant] = (), now: Callable[[], float] = lambda: 0.0) -> None:
        self._now = now
        self._front = 0.0  # the key of whoever was served last, once it was served
        self._shares = 0.0  # the dominant shares of all, added up
        self._weights = 0.0  # the weights of those that are active, added up
        self._hold_s = 1.0
        self._slowest = ""  # whose usual hold that is
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
            account.settle(self._now())
            self._weigh(account)
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
        account.settle(self._now())
        account.charge(shape, sign)
        self._weigh(account)
        held = self._held
        for name, amount in shape.amounts:
            held[name] = held.get(name, 0) + sign * amount
        if sign > 0:
            self._front = max(self._front, account.served + account.level * self._hold_s)
        elif self._hold_changed(account):
            return
        self.refresh(account)

    def _weigh(self, account: Account) -> None:
        """Bring the account's level, and the sums over all accounts, up to date."""
        level, weight = self.share(account), account.tenant.weight
        self._shares += (level - account.level) * weight
        account.level = level
        active = bool(account.running or account.waiting_lines)
        if active != account.active:
            self._weights += weight if active else -weight
            account.active = active

    def _hold_changed(self, account: Account) -> bool:
        """Rank everyone anew, O(tenants), if the longest usual hold has changed; say whether it has."""
        hold_s = account.hold_s()
        if hold_s <= self._hold_s * _DRIFT and (account.name != self._slowest or hold_s >= self._hold_s / _DRIFT):
            return False
        active = [each for each in self._accounts.values() if each.running or each.waiting_lines] or [account]
        slowest = max(active, key=lambda each: (each.hold_s(), each.name))
        self._slowest, self._hold_s = slowest.name, slowest.hold_s() or self._hold_s
        for each in self._accounts.values():
            self.refresh(each)
        return True

    def slots(self, shape: Shape) -> int:
        """Return how many of `shape` fit at most beside what all tenants hold: by the sums, as if all were one room."""
        total, held = self._total, self._held
        free = ((total.get(name, 0) - held.get(name, 0)) // need for name, need in shape.amounts)
        return max(0, min(free, default=1))

    def refresh(self, account: Account) -> None:
        """Rank `account` anew, as something about it has changed."""
        waited = account.rank is not None
        if waited:
            account.rank = None
            self._stale += 1
        if account.active != bool(account.running or account.waiting_lines):
            self._weigh(account)
        if account.waiting_lines:
            account.settle(self._now())
            # Who holds what it should is as far behind the front as its level is worth.  Twice that, so that
            # who comes goes before the others until it has caught up with them.
            worth = 2 * self._shares / self._weights * self._hold_s
            account.served = max(account.served, self._front - (_OWED_MAX * self._hold_s if waited else worth))
            self._rank(account)
        if self._stale > _STALE_MIN and self._stale * 2 > len(self._heap):
            self._heap = [rank for rank in self._heap if rank[3].rank is rank]
            heapq.heapify(self._heap)
            self._stale = 0

    def _rank(self, account: Account) -> None:
        key = account.served + account.level * self._hold_s
        rank = (0 if account.below_quota() else 1, key, account.name, account)
        account.rank = rank
        heapq.heappush(self._heap, rank)

    def in_order(self) -> Iterator[Account]:
        """Yield the accounts that have someone waiting, the one to serve first first."""
        now = self._now()
        while self._heap:
            rank = self._heap[0]
            account = rank[3]
            if account.rank is not rank:
                heapq.heappop(self._heap)
                self._stale -= 1
            elif account.level and account.settled_at < now:
                self.refresh(account)
            else:
                break
        for rank in in_order(self._heap):
            if rank[3].rank is rank:
                yield rank[3]

    def snapshot(self) -> dict[str, Any]:
        """Return who has been served how much, for `restore`."""
        return {
            "sums": [self._front, self._shares, self._weights, self._hold_s],
            "slowest": self._slowest,
            "accounts": {
                account.name: [account.served, account.settled_at, account.busy_s, account.ends]
                for account in self._accounts.values()
            },
        }

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from what `snapshot` returned, after everything that was held then has been charged again."""
        self._front, self._shares, self._weights, self._hold_s = data["sums"]
        self._slowest = data["slowest"]
        for name, (served, settled_at, busy_s, ends) in data["accounts"].items():
            account = self.account(name)
            account.served, account.settled_at, account.busy_s, account.ends = served, settled_at, busy_s, ends
        self._heap.clear()
        self._stale = 0
        for account in self._accounts.values():
            if account.rank is not None:
                self._rank(account)
