"""When a task that did not succeed runs again.

Errors, lost workers and kills for memory are counted apart: a bug in the task must not use up the
patience that a flaky machine deserves, nor the other way round.

The wait before an attempt is exponential backoff with *full jitter*: uniform between 0 and
``min(cap, base * 2 ** (n - 1))`` for the n-th failure (M. Brooker, "Exponential Backoff and Jitter",
AWS Architecture Blog, 2015).  The jitter is drawn from a hash of the task and the attempt, not from a
generator: it needs no state, so a restored scheduler draws what the lost one would have drawn.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from balance.types import check_int, check_number

_EXPONENT_MAX = 62  # beyond it every sensible cap has been reached, and 2.0**1100 would overflow


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and after which wait, a task runs again.

    Attributes
    ----------
    errors : int
        Attempts after the first that may follow an exception or a timeout.
    lost : int
        Attempts that may follow the loss of a worker or node.
    memory : int
        Attempts that may follow a kill for memory, each with a larger request.
    base_s, cap_s : float
        Bounds of the backoff, in seconds.

    Examples
    --------
    >>> policy = RetryPolicy(errors=3, base_s=1.0, cap_s=60.0)
    >>> waits = [policy.wait_s("task-7", failure) for failure in (1, 2, 3)]
    >>> all(0 <= wait <= bound for wait, bound in zip(waits, (1, 2, 4)))
    True
    >>> policy.wait_s("task-7", 1) == policy.wait_s("task-7", 1)
    True
    """

    errors: int = 0
    lost: int = 3
    memory: int = 3
    base_s: float = 1.0
    cap_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("errors", "lost", "memory"):
            check_int(f"retry.{name}", getattr(self, name), minimum=0)
        check_number("retry.base_s", self.base_s, minimum=0)
        check_number("retry.cap_s", self.cap_s, minimum=0)

    def wait_s(self, task_id: str, failure: int) -> float:
        """Return the seconds to wait after the `failure`-th failure (1 is the first) of `task_id`."""
        bound = min(self.cap_s, self.base_s * 2.0 ** min(failure - 1, _EXPONENT_MAX))
        return bound * jitter(task_id, failure)

    def to_dict(self) -> dict[str, Any]:
        """Return ``errors``, ``lost``, ``memory`` (counts), ``base_s`` and ``cap_s`` (seconds)."""
        return asdict(self)


def jitter(task_id: str, failure: int) -> float:
    """Return a number in [0, 1), uniform over tasks and failures, the same for the same ones.

    Examples
    --------
    >>> 0 <= jitter("a", 1) < 1 and jitter("a", 1) != jitter("a", 2)
    True
    """
    digest = hashlib.blake2b(f"{task_id}\0{failure}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2.0**64
