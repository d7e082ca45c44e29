"""A PostgreSQL that says nothing is given up: a limit on the client's side, beside those that the server keeps itself.

``statement_timeout`` and ``lock_timeout`` are kept by the very process that may hang, and TCP's limits by a kernel that
acknowledges what a stopped process never reads.  So who waits for an answer counts the seconds since the last byte.

It goes through `psycopg.Connection.wait`, where psycopg waits for whatever a connection does.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from sqlalchemy import Engine, event

T = TypeVar("T")


class ListeningConnection(psycopg.Connection[Any]):
    """A connection that gives up when the server has said nothing for too long.

    Attributes
    ----------
    silence_s : float
        For how long; no limit unless it is set.
    """

    silence_s = float("inf")

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """As psycopg's own; `psycopg.OperationalError`, and the connection is closed, after too long a silence."""
        return super().wait(self._listening(gen), *args, **kwargs)

    def _listening(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        heard_at = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                now = time.monotonic()
                if ready:
                    heard_at = now
                elif now - heard_at > self.silence_s:
                    self.pgconn.finish()  # what comes later would be the answer to something else
                    raise psycopg.OperationalError(f"the server has said nothing for {self.silence_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as end:
            found: T = end.value
            return found


def limit_silence(engine: Engine, silence_s: float) -> None:
    """Let every connection that an engine of psycopg's opens from now on give up after so many seconds of silence."""

    def connect(_dialect: Any, _record: Any, args: Any, how: Any) -> ListeningConnection:
        connection = ListeningConnection.connect(*args, **how)
        connection.silence_s = silence_s
        return connection

    event.listen(engine, "do_connect", connect)
