"""Who reads which partition: the membership of one consumer group on one topic.

Pure: time is an argument.  Each partition has at most one owner; partitions are spread so that two members never
differ by more than one; an owner keeps what it has where that is possible (as Kafka's *sticky* assignor, KIP-54).  A
member that has not been heard of for the session time is taken out.
"""

from __future__ import annotations

from balance.errors import InvalidValue

MAX_MEMBERS = 1_000


class ConsumerGroup:
    """The members of one group and the partitions that each owns.

    Parameters
    ----------
    partitions : int
        How many partitions the topic has.
    session_s : float
        After this many seconds of silence a member is out.
    generation : int, default 0
        Where their count begins.

    Examples
    --------
    >>> group = ConsumerGroup(partitions=3, session_s=10.0)
    >>> group.beat("a", now=0.0); group.assignment("a")
    [0, 1, 2]
    >>> group.beat("b", now=1.0); group.assignment("a"), group.assignment("b")
    ([0, 1], [2])
    >>> group.beat("b", now=9.0); group.expire(now=12.0); group.assignment("b")
    ['a']
    [0, 1, 2]
    """

    def __init__(self, partitions: int, session_s: float, *, generation: int = 0) -> None:
        self._partitions = partitions
        self._session_s = session_s
        self._seen_at: dict[str, float] = {}
        self._owner: dict[int, str] = {}
        self.generation = generation

    @property
    def members(self) -> list[str]:
        """The members, sorted."""
        return sorted(self._seen_at)

    def beat(self, member: str, now: float) -> None:
        """Note that `member` is there; a new one gets its share.

        Raises
        ------
        InvalidValue
            The group is full.
        """
        if member not in self._seen_at:
            if len(self._seen_at) >= MAX_MEMBERS:
                raise InvalidValue("member", member, f"one of at most {MAX_MEMBERS} members of a group")
            self._seen_at[member] = now
            self._assign()
        else:
            self._seen_at[member] = now

    def leave(self, member: str) -> None:
        """Take `member` out; one that is not there is no error."""
        if self._seen_at.pop(member, None) is not None:
            self._assign()

    def expire(self, now: float) -> list[str]:
        """Take out those that were silent too long; return them."""
        silent = sorted(m for m, seen in self._seen_at.items() if now - seen > self._session_s)
        for member in silent:
            del self._seen_at[member]
        if silent:
            self._assign()
        return silent

    def assignment(self, member: str) -> list[int]:
        """Return the partitions that `member` owns, in order; none for a stranger."""
        return [p for p in range(self._partitions) if self._owner.get(p) == member]

    def owns(self, member: str, partition: int) -> bool:
        """Say whether `partition` is the member's."""
        return self._owner.get(partition) == member

    def _assign(self) -> None:
        self.generation += 1
        members = sorted(self._seen_at)
        if not members:
            self._owner.clear()
            return
        base, extra = divmod(self._partitions, len(members))
        held: dict[str, list[int]] = {m: [] for m in members}
        loose: list[int] = []
        for partition in range(self._partitions):
            held.get(self._owner.get(partition, ""), loose).append(partition)
        # Whoever holds most may keep one more than the rest, as long as there are extras to give.
        quota = {m: base + (rank < extra) for rank, m in enumerate(sorted(members, key=lambda m: (-len(held[m]), m)))}
        for member in members:
            loose += held[member][quota[member] :]
            del held[member][quota[member] :]
        loose.sort()
        for member in members:
            while len(held[member]) < quota[member]:
                held[member].append(loose.pop(0))
        self._owner = {p: m for m in members for p in held[m]}
