"""Blocking work beside the event loop, finished even when the one who waits for it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class ThreadOffload:
    """Run blocking work in a thread of the loop's own pool.

    Examples
    --------
    >>> import asyncio
    >>> answers = []
    >>> asyncio.run(ThreadOffload()(lambda: 6 * 7, answers.append))
    >>> answers
    [42]
    """

    async def __call__(self, work: Callable[[], T], deliver: Callable[[T], None]) -> None:
        """Run ``work()`` and hand its result to ``deliver`` on the loop.

        A thread can't be stopped, and half-done work helps nobody: a cancellation meanwhile is held back
        until ``deliver`` has returned, then raised.
        """
        running = asyncio.get_running_loop().run_in_executor(None, work)
        cancelled: asyncio.CancelledError | None = None
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError as error:
                cancelled = error
        deliver(running.result())
        if cancelled is not None:
            raise cancelled
