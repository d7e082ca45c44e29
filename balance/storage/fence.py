"""The right to write, as a value: an owner's name and the epoch in which it took over."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fence:
    """Who writes, and since which takeover.

    `Store.acquire` hands one out and thereby invalidates every older one of the same owner: after a lost
    node the orphan of an actor can go on for seconds, and this is what keeps it from writing
    (Kleppmann's *fencing token*, https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html).

    Attributes
    ----------
    owner : str
        The name of the writer, usually that of its actor.
    epoch : int
        1 for the first takeover, one more for each later one.

    Examples
    --------
    >>> Fence("scheduler", 3)
    Fence(owner='scheduler', epoch=3)
    """

    owner: str
    epoch: int
