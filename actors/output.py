"""What tasks print, kept until it is asked for and bounded meanwhile."""

from __future__ import annotations

import io
from typing import TextIO


class Output(io.TextIOBase):
    """A text stream that remembers the end of what was written while it listens.

    One object serves all tasks of a process: a logging handler that the first of them made goes on to write
    to where its writing is read.  While nobody listens, what is written goes to the stream behind.

    Parameters
    ----------
    behind : TextIO
        The process's own stream.
    limit : int
        How many characters are kept.

    Examples
    --------
    >>> output = Output(io.StringIO(), limit=8)
    >>> output.listening = True
    >>> print("one, two, three", file=output)
    >>> output.parts and output.take()
    ', three\\n'
    >>> output.parts
    []
    """

    def __init__(self, behind: TextIO, limit: int) -> None:
        super().__init__()
        #: Whether what is written is remembered.
        self.listening = False
        #: What was written since `take`; empty for a task that printed nothing, which is cheap to see.
        self.parts: list[str] = []
        self._behind = behind
        self._limit = limit
        self._size = 0

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Always UTF-8: what is kept is text."""
        return "utf-8"

    @property
    def buffer(self) -> _Bytes:
        """For those who write bytes to ``sys.stdout.buffer``."""
        return _Bytes(self)

    def write(self, text: str) -> int:
        """Remember `text`; what has become too old is forgotten."""
        if not self.listening:
            return self._behind.write(text)
        self.parts.append(text)
        self._size += len(text)
        if self._size > 2 * self._limit:
            self.parts = ["".join(self.parts)[-self._limit :]]
            self._size = len(self.parts[0])
        return len(text)

    def take(self) -> str:
        """Return what was written since the last call, at most `limit` characters of it."""
        parts, self.parts, self._size = self.parts, [], 0
        return "".join(parts)[-self._limit :]

    def writable(self) -> bool:
        """Say yes."""
        return True

    def flush(self) -> None:
        """Hand on what was written while nobody listened."""
        self._behind.flush()

    def fileno(self) -> int:
        """Return the descriptor behind, for processes that a task starts: what they print goes to the log."""
        return self._behind.fileno()


class _Bytes(io.RawIOBase):
    """Takes bytes for an `Output`."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        taken = bytes(data)
        self._output.write(taken.decode("utf-8", "replace"))
        return len(taken)
