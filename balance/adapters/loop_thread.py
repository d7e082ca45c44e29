"""An event loop in a thread of its own, for sync code that uses an async service."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, wait
from typing import Any, TypeVar

from balance.errors import NotReady, NotYet

T = TypeVar("T")


class LoopThread:
    """Runs coroutines in the order of their calls, from any thread; the loop starts with the first one.

    Parameters
    ----------
    name : str
        Of the thread.

    Examples
    --------
    >>> async def answer():
    ...     return 6 * 7
    >>> loop = LoopThread()
    >>> loop.run(answer())
    42
    >>> loop.close()
    """

    def __init__(self, *, name: str = "balance-loop") -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine on the loop and return what it returns.

        Raises
        ------
        NotYet
            It did not end within `timeout_s`; it is cancelled.
        NotReady
            The loop was closed, or this is the loop's own thread, which would wait for itself for ever.
        """
        try:
            loop = self._running()
        except BaseException:
            coroutine.close()
            raise
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            if not wait([future], timeout_s).done:
                raise NotYet(f"there was no answer within {timeout_s:g} s", timeout_s=timeout_s)
        except BaseException:
            future.cancel()
            raise
        try:
            return future.result()
        except CancelledError:
            raise NotReady("it was closed meanwhile; build another one") from None

    def close(self) -> None:
        """Cancel what runs, end the loop and its thread; safe to call twice."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise NotReady("it was closed; build another one")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_serve, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
            if threading.current_thread() is self._thread:
                raise NotReady("this is the loop's own thread; await the coroutine here")
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:  # cancels and awaits what is left when it ends
        runner.get_loop().run_forever()
