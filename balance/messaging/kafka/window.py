"""What was fetched from one partition ahead of the reader: bounded, and read again as often as it is asked for.

A poll changes nothing: records leave the window when the reader asks for what comes after them, not when they are
handed out, so an answer that got lost costs nothing.

Offsets of a Kafka partition may have gaps (compaction, retention), so the window remembers from where it continues.
"""

from __future__ import annotations

from collections import deque
from itertools import islice

from balance.messaging.broker import Record
from balance.messaging.progress import Ranges

#: Above either of them the partition is not fetched any further.
MAX_RECORDS = 2_000
MAX_BYTES = 4 * 2**20


class Window:
    """The records of one partition that the reader may ask for next.

    Attributes
    ----------
    committed : int or None
        What the group has committed; None as long as nobody has asked.
    beyond : ranges
        What the group has handled beyond that.
    tail : int
        Where the partition ended when it was last read to its end: behind the last record there may be marks of
        transactions, which count as offsets and are never read.
    end : int
        The offset after the last record that was ever fetched.
    is_paused : bool
        Whether the consumer was told to stop fetching; the window only remembers it.
    is_rewinding : bool
        Whether what comes now is not wanted, as long as the consumer was not told to fetch from `start`; so it begins.

    Examples
    --------
    >>> window = Window()
    >>> window.begin(5)
    >>> window.is_rewinding = False  # the consumer fetches from 5
    >>> window.add(Record(0, 7, None, b"{}", {}, 0.0))
    True
    >>> [r.offset for r in window.read(5, 10)], [r.offset for r in window.read(5, 10)], window.read(8, 10)
    ([7], [7], [])
    >>> window.read(6, 10) is None  # behind what was confirmed: it has to be fetched again
    True
    """

    __slots__ = ("_bytes", "_records", "_start", "beyond", "committed", "end", "is_paused", "is_rewinding", "tail")

    def __init__(self) -> None:
        self._records: deque[Record] = deque()
        self._bytes = 0
        self._start = 0
        self.committed: int | None = None
        self.beyond: Ranges = ()
        self.end = 0
        self.tail = 0
        self.is_paused = False
        self.is_rewinding = True

    @property
    def is_full(self) -> bool:
        """Whether to stop fetching."""
        return len(self._records) >= MAX_RECORDS or self._bytes >= MAX_BYTES

    @property
    def has_room(self) -> bool:
        """Whether to go on fetching: half of it is free again."""
        return len(self._records) <= MAX_RECORDS // 2 and self._bytes <= MAX_BYTES // 2

    @property
    def start(self) -> int:
        """The offset from which it continues."""
        return self._start

    def begin(self, committed: int, beyond: Ranges = ()) -> None:
        """Take over what the group has committed: that is where reading begins."""
        self.committed, self.beyond = committed, beyond
        self.end = max(self.end, committed)
        self._advance(committed)

    def add(self, record: Record) -> bool:
        """Take a record that was fetched; False if it was fetched from a place that is not wanted any more."""
        if self.is_rewinding or record.offset < self._start:
            return False
        self._records.append(record)
        self._bytes += len(record.value)
        self.end = record.offset + 1
        return True

    def read(self, position: int, max_records: int) -> list[Record] | None:
        """Return records from `position` on and forget those before it; None if they are forgotten already."""
        if position < self._start:
            return None
        self._advance(position)
        return list(islice(self._records, max_records))

    def past_marks(self, offset: int) -> int:
        """Return where a commit of `offset` may go: over the marks behind it, if it is all that there is.

        Examples
        --------
        >>> window = Window()
        >>> window.begin(3)
        >>> window.tail = 5  # of what was fetched the last has the offset 2
        >>> window.past_marks(3), window.past_marks(2)
        (5, 2)
        """
        return max(offset, self.tail) if offset >= self.end else offset

    def rewind(self, position: int) -> None:
        """Forget everything and continue from `position`, as soon as the consumer fetches from there."""
        self._records.clear()
        self._bytes = 0
        self._start = position
        self.is_rewinding = True

    def _advance(self, position: int) -> None:
        while self._records and self._records[0].offset < position:
            self._bytes -= len(self._records.popleft().value)
        self._start = max(self._start, position)
