"""Memory for pieces, used again: to get it anew from the system costs more than to copy into it."""

from __future__ import annotations

from collections import deque


class Buffers:
    """Lends memory, from any thread.

    Parameters
    ----------
    size_bytes : int
        The most that anybody needs at once.

    Examples
    --------
    >>> buffers = Buffers(10)
    >>> view = buffers.take(4)
    >>> len(view), len(view.obj)
    (4, 10)
    >>> buffers.give_back(view)
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._free: deque[bytearray] = deque()

    def take(self, size_bytes: int) -> memoryview:
        """Return so many bytes, with whatever was in them."""
        try:
            whole = self._free.pop()
        except IndexError:
            whole = bytearray(self._size_bytes)
        return memoryview(whole)[:size_bytes]

    def give_back(self, view: memoryview) -> None:
        """Take back what `take` returned."""
        assert isinstance(view.obj, bytearray)
        self._free.append(view.obj)
