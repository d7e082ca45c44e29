"""Telling of tasks that are over: not before it is on disk, and many at once."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import islice
from typing import Any

from balance.core.scheduler.instructions import FinishTask
from balance.core.scheduler.states import State

SLICE = 500
"""How many are told of at once: about a millisecond, in which nobody else is heard."""

NAMED_MAX = 10
"""How many tasks that did not complete are named in the log, of those that end at once."""

log = logging.getLogger("balance.scheduler")


class Announcer:
    """Collects what ends, and tells of it together once it is durable.

    While one round waits for the disk the next one gathers, so a busy scheduler tells of thousands at a time
    and an idle one of each at once.

    Parameters
    ----------
    durable : callable
        Returns once all that was recorded so far is on disk, however often that takes.
    tell : callable
        Takes the tasks that are over, in the order in which they ended.
    spawn : callable
        Runs a coroutine beside the calls of the actor.
    """

    def __init__(
        self,
        durable: Callable[[], Awaitable[None]],
        tell: Callable[[Sequence[FinishTask]], None],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._durable = durable
        self._tell = tell
        self._spawn = spawn
        self._ended: list[FinishTask] = []
        self._busy = False

    def finished(self, finish: FinishTask) -> None:
        """Take in that a task is over."""
        self._ended.append(finish)
        if not self._busy:
            self._busy = True
            self._spawn(self._announce())

    async def _announce(self) -> None:
        while self._ended:
            ended, self._ended = self._ended, []
            await self._durable()
            for first in range(0, len(ended), SLICE):
                self._tell(ended[first : first + SLICE])
                await asyncio.sleep(0)
            _log(ended)
        self._busy = False


def _log(ended: Sequence[FinishTask]) -> None:
    counts = sorted(Counter(str(each.state) for each in ended).items())
    log.info(
        "event=tasks_over %s last=%s", " ".join(f"{state}={number}" for state, number in counts), ended[-1].task_id
    )
    for each in islice((each for each in ended if each.state is not State.COMPLETED), NAMED_MAX):
        log.warning(
            "event=task_over task_id=%s state=%s attempt=%d %s", each.task_id, each.state, each.attempt, each.reason
        )
