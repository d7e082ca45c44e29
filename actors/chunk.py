"""What travels between the pool and an executor: runs of several calls at once, and what became of them.

A chunk is pickled here, once and flat, so that Ray has bytes to carry and nothing to look into.  What is
ordinary about a member (it returned, it printed nothing) takes two list entries; everything else goes into a
`Note`.
"""

from __future__ import annotations

import pickle
from typing import NamedTuple

from ray import cloudpickle

from balance.client.grant import Share

PROTOCOL = 5


class Chunk(NamedTuple):
    """Calls to be run one after another.

    Attributes
    ----------
    number : int
        Of the run, so that nobody recalls another one.
    task_ids, attempts : tuple
        Of the members, first to run first.
    functions : tuple of str
        The hashes of the functions that are called.
    which : tuple of int
        For each member, the index of its function; empty where all call the first.
    arguments : list of bytes
        The pickled ``(args, kwargs)`` of each member.
    blobs : dict
        The pickles of the functions that may not be known there, by hash.
    share : Share
        What the members may use, one at a time.
    overrun_s : float or None
        After so many seconds no further member begins; None for a task that runs by itself, and is measured.
    """

    number: int
    task_ids: tuple[str, ...]
    attempts: tuple[int, ...]
    functions: tuple[str, ...]
    which: tuple[int, ...]
    arguments: list[bytes]
    blobs: dict[str, bytes]
    share: Share
    overrun_s: float | None

    def packed(self) -> bytes:
        """Return it as bytes."""
        return pickle.dumps(tuple(self), PROTOCOL)

    @classmethod
    def unpacked(cls, data: bytes) -> Chunk:
        """Read back what `packed` returned."""
        return cls(*cloudpickle.loads(data))


class Note(NamedTuple):
    """What is out of the ordinary about one member's run.

    Attributes
    ----------
    failure : str
        ``error`` or ``out_of_memory``; empty for a run that succeeded.
    error, error_type, traceback : str
        What it raised.
    output : str
        The end of what it printed.
    peak_memory_bytes : int or None
        By how much the process had grown at most while it ran, where that was measured.
    large : bool
        The value is not in the reply: `ExecutorActor.large` gives it away.
    """

    failure: str = ""
    error: str = ""
    error_type: str = ""
    traceback: str = ""
    output: str = ""
    peak_memory_bytes: int | None = None
    large: bool = False


class Reply(NamedTuple):
    """What became of the members that have run, from the first on.

    Attributes
    ----------
    begun : int
        How many members have begun; those after them never will.
    values : list of bytes or None
        The pickled result of each member that is over.
    run_s : list of float
        How long each of them ran, in seconds.
    notes : dict
        By index; for the ordinary there is none.
    missing : bool
        A function was not known and its pickle not sent along; nothing ran.

    Examples
    --------
    >>> Reply.unpacked(Reply(1, [b"value"], [0.25], {}).packed()).run_s
    [0.25]
    """

    begun: int
    values: list[bytes | None]
    run_s: list[float]
    notes: dict[int, Note]
    missing: bool = False

    def packed(self) -> bytes:
        """Return it as bytes."""
        return pickle.dumps(tuple(self), PROTOCOL)

    @classmethod
    def unpacked(cls, data: bytes) -> Reply:
        """Read back what `packed` returned."""
        return cls(*cloudpickle.loads(data))
