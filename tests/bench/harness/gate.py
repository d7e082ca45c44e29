"""What holds tasks for as long as a play lasts, and counts them."""

from __future__ import annotations

import asyncio


class Gate:
    """Holds who comes for the play that is on; who comes for one that is over passes, and is not counted.

    A task of an earlier play can come late: its worker was slow, or it got its device only when that play was over.
    Run as an asyncio actor, it is asked by many at a time.

    Examples
    --------
    >>> async def late_one():
    ...     gate = Gate()
    ...     now = await gate.open()
    ...     await gate.hold(now - 1)
    ...     return await gate.started()
    >>> asyncio.run(late_one())
    0
    """

    def __init__(self) -> None:
        self._play = 0
        self._over = asyncio.Event()
        self._started = 0

    async def hold(self, play: int) -> None:
        """Return when that play, which has a number, is over."""
        if play == self._play:
            self._started += 1
            await self._over.wait()

    async def started(self) -> int:
        """Return how many have come for the play that is on."""
        return self._started

    async def open(self) -> int:
        """End the play that is on; return the number of the next."""
        self._over.set()
        self._play, self._over, self._started = self._play + 1, asyncio.Event(), 0
        return self._play
