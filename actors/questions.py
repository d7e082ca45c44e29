"""Questions to the classes of `balance.prediction`, answered in a fitter's process, and remembered for a moment."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from ray.exceptions import RayTaskError

from balance.clock import Clock
from balance.prediction.demand import CpuBudget
from balance.timeseries.history import History

FRESH_S = 5.0
"""An answer that is not older is given again instead of computed anew."""

PATIENCE_S = 300.0
"""How long an answer of a fitter is awaited."""


class Questions:
    """Asks fitters.

    Parameters
    ----------
    fitter_of : callable
        Returns the fitter that a subject belongs to.
    history : callable
        Returns the history as it is now.
    budget : CpuBudget
        What answers cost is spent from.
    clock : Clock
        Ages answers.
    """

    def __init__(
        self, fitter_of: Callable[[str], Any], history: Callable[[], History], budget: CpuBudget, clock: Clock
    ) -> None:
        self._fitter_of = fitter_of
        self._history = history
        self._budget = budget
        self._clock = clock
        self._known: dict[tuple[Any, ...], tuple[float, asyncio.Future[dict[str, Any]]]] = {}

    async def now(self, subject: str, where: str, method: str, *arguments: Any) -> dict[str, Any]:
        """Let a class answer on the part of the history that is about a subject; see `FitterActor.answer`."""
        return {**await self._asked(subject, where, method, arguments), "age_s": 0.0}

    async def lately(self, subject: str, where: str, method: str, *arguments: Any) -> dict[str, Any]:
        """Return the answer to a question that was asked lately, with its age; those who ask at once share one."""
        now, key = self._clock.now(), (where, *arguments)
        at, known = self._known.get(key, (-math.inf, None))
        if known is None or now - at > FRESH_S:
            self._known = {key: kept for key, kept in self._known.items() if now - kept[0] <= FRESH_S}
            known = asyncio.ensure_future(self._asked(subject, where, method, arguments))
            at, _ = self._known[key] = (now, known)
            known.add_done_callback(lambda done: self._look(key, done))
        return {**await asyncio.shield(known), "age_s": self._clock.now() - at}

    def _look(self, key: tuple[Any, ...], done: asyncio.Future[dict[str, Any]]) -> None:
        """Forget an answer that did not come, so that the next one who asks may have more luck."""
        if (done.cancelled() or done.exception() is not None) and self._known.get(key, (0.0, None))[1] is done:
            del self._known[key]

    async def _asked(self, subject: str, where: str, method: str, arguments: tuple[Any, ...]) -> dict[str, Any]:
        history, ends = self._history(), (f"/{subject}", f":{subject}")
        names = [name for name in history.series() if name == subject or name.endswith(ends)]
        call = self._fitter_of(subject).answer.remote(where, method, history.part(names), arguments)
        try:
            answer, cpu_s = await asyncio.wait_for(call, PATIENCE_S)
        except RayTaskError as error:  # what the class raised, as if it had been asked here
            raise error.cause from None
        self._budget.spend(cpu_s)
        made: dict[str, Any] = answer
        return made
