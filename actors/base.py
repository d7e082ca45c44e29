"""What every actor of Balance shares: its settings, its durable state, its log, its peers.

A shell is an asyncio actor around a decider.  It decodes, calls, carries out and encodes; it holds no
rule of the domain.  Shells never block on one another: they await, with a limit.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict
from typing import Any, ClassVar, TypeVar

import ray

from actors import NAMESPACE
from balance.clock import SystemClock, iso
from balance.config import Settings
from balance.errors import StaleEpoch
from balance.storage import GroupCommit, Store

T = TypeVar("T")

CALL_TIMEOUT_S = 30.0
"""How long one actor waits for another before it gives up."""

_handles: dict[str, Any] = {}


def peer(role: str) -> Any:
    """Return the handle of another actor; Ray keeps it valid when that actor restarts."""
    if role not in _handles:
        _handles[role] = ray.get_actor(role, namespace=NAMESPACE)
    return _handles[role]


async def ask(role: str, method: str, *args: Any, patience_s: float | None = CALL_TIMEOUT_S, **kwargs: Any) -> Any:
    """Call `method` of another actor and await its answer for at most `patience_s` seconds; None waits for ever."""
    call = getattr(peer(role), method).remote(*args, **kwargs)
    return await (call if patience_s is None else asyncio.wait_for(call, patience_s))


def call_id() -> str:
    """Return what names the actor call under way: the same when Ray makes it again after the actor died.

    What is numbered by it is done once, however often it is called.
    """
    return str(ray.get_runtime_context().get_task_id())


class Shell:
    """The part of an actor that is the same in all of them.

    Parameters
    ----------
    settings : dict
        The fields of `balance.config.Settings`.
    name : str, optional
        Which of its kind it is, where there are several; else its role is its name.
    """

    role: ClassVar[str] = "shell"

    def __init__(self, settings: dict[str, Any], name: str = "") -> None:
        self.name = name or self.role
        self.settings = Settings(**settings)
        self.clock = SystemClock()
        self.started_at = self.clock.wall()
        self.log = logging.getLogger(f"balance.{self.name}")
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self.store = Store(self.settings.database_url(), clock=self.clock)
        self.fence = self.store.acquire(self.name)
        self.commits = GroupCommit(self.store, self.fence)
        self._background: set[asyncio.Task[Any]] = set()
        self._closing = False

    def __repr__(self) -> str:
        return f"Balance<{self.name}>"

    async def ping(self) -> dict[str, Any]:
        """Answer with who this is.

        Returns
        -------
        dict
            ``role``, ``state`` (``ready | closing``), ``pid``, ``node_id``, ``epoch`` (how often it
            has started on this state), ``started_at`` (ISO 8601).
        """
        return {
            "role": self.name,
            "state": "closing" if self._closing else "ready",
            "pid": os.getpid(),
            "node_id": ray.get_runtime_context().get_node_id(),
            "epoch": self.fence.epoch,
            "started_at": iso(self.started_at),
        }

    async def stats(self) -> dict[str, Any]:
        """Return what this actor holds, as JSON values; each shell says more."""
        return {}

    async def close(self) -> None:
        """Finish what is being written and stop working; the process ends afterwards."""
        self._closing = True
        for task in list(self._background):
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        await self.closed()
        await asyncio.to_thread(self.commits.close)
        self.store.close()

    async def closed(self) -> None:
        """Let a subclass finish its own parts; its background tasks have ended."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` beside the calls of this actor; an error is logged, never lost."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("event=background_failed task=%s error=%r", task.get_coro(), error, exc_info=error)

    async def every(
        self, seconds: float, work: Callable[[], Awaitable[Any]], late: Callable[[float], None] | None = None
    ) -> None:
        """Call `work` every `seconds`, on a fixed grid; a failing round is logged and the next one runs.

        Parameters
        ----------
        late : callable, optional
            Told before each round how many seconds after its moment of the grid it begins.
        """
        due = self.clock.now()
        while not self._closing:
            wanted = due + seconds
            due = max(wanted, self.clock.now())
            await asyncio.sleep(due - self.clock.now())
            if late is not None:
                late(self.clock.now() - wanted)
            try:
                await work()
            except asyncio.CancelledError:
                raise
            except Exception:
                self.log.exception("event=round_failed work=%s", getattr(work, "__name__", work))

    async def insist(self, work: Callable[[], Awaitable[T]], *, pause_s: float = 1.0) -> T:
        """Return what ``work()`` returns, called anew every `pause_s` seconds until it succeeds.

        For what an actor can't go on without; only the loss of its place to a newer incarnation ends it.
        """
        while True:
            try:
                return await work()
            except StaleEpoch:
                raise
            except Exception:
                self.log.exception("event=not_yet work=%s", getattr(work, "__name__", work))
                await asyncio.sleep(pause_s)

    async def commit(self, write: Callable[[Any], T]) -> T:
        """Run ``write(transaction)`` durably, grouped with the writes of other callers."""
        return await asyncio.shield(asyncio.wrap_future(self.commits.submit(write)))


def encode(settings: Settings) -> dict[str, Any]:
    """Return settings as the dict that a shell takes."""
    return asdict(settings)
