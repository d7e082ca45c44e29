"""What a task may use, told to the task itself.

Ray tells a task its resources through its own runtime context, which knows nothing of a task that shares an
executor.  The executor sets this before each task; a task reads it with `grant`.
"""

from __future__ import annotations

from typing import NamedTuple


class Share(NamedTuple):
    """What the tasks of one executor may use, one at a time.

    Attributes
    ----------
    node_id : str
        Where they run.
    cpu : float
        Cores.
    memory_bytes : int
        What was asked for; 0 where nothing was.
    gpu : float
        Devices, a fraction of one for a shared one.
    devices : tuple of int
        The node's indices of those devices; ``CUDA_VISIBLE_DEVICES`` shows the process no others.
    """

    node_id: str
    cpu: float
    memory_bytes: int = 0
    gpu: float = 0.0
    devices: tuple[int, ...] = ()


class Grant(NamedTuple):
    """Which task this is, and what it may use.

    Attributes
    ----------
    task_id : str
        A key for whatever must not be done twice: it is the same when the task runs again.
    attempt : int
        1 for the first.
    share : Share
        What it may use.
    """

    task_id: str
    attempt: int
    share: Share


now: Grant | None = None


def grant() -> Grant | None:
    """Return what the task that calls this may use; None outside of a task.

    Examples
    --------
    >>> grant() is None
    True
    """
    return now
