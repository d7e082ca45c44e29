"""The way to the scheduler through Ray.  Whoever only imports Balance pays nothing for it: Ray is imported here."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from typing import Any

# A driver under `uv run` would have Ray build an environment of its own for each worker.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from balance.client.wire import Outcome
from balance.errors import BalanceError, ClusterError

NAMESPACE = "balance"
SCHEDULER = "scheduler"

LOOK_EVERY_S = 1.0
"""How often a thread that waits for an answer looks whether it is still wanted."""


class Gone(ClusterError):
    """The scheduler does not run now; it may be back in a moment."""


class Link:
    """Calls the scheduler's methods.

    Parameters
    ----------
    address : str
        Of a Ray cluster; ``auto`` for the one on this machine.  Not used where Ray is connected already.
    namespace : str
        The Ray namespace of Balance's actors.

    Raises
    ------
    ClusterError
        No Ray answers there, or no Balance runs on it.
    """

    def __init__(self, address: str = "auto", namespace: str = NAMESPACE) -> None:
        self._namespace = namespace
        self._handle: Any = None
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                ray.init(address, namespace=f"{namespace}-clients", log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:
                raise ClusterError(
                    f"no Ray cluster can be reached at {address!r} ({_last_line(error)}); start one with 'balance up'",
                    address=address,
                ) from error
        try:
            self.epoch = int(self.call("ping")["epoch"])
        except BaseException:
            self.close()
            raise

    def start(self, method: str, *arguments: Any) -> Any:
        """Begin a call and return Ray's reference of its answer."""
        if self._handle is None:
            try:
                self._handle = ray.get_actor(SCHEDULER, namespace=self._namespace)
            except ValueError:
                raise Gone(
                    f"Balance does not run on this Ray cluster (no actor {SCHEDULER!r}); 'balance up' starts it"
                ) from None
        return getattr(self._handle, method).remote(*arguments)

    def call(self, method: str, *arguments: Any, wanted: Any = None) -> Any:
        """Call a method and return its answer; None once ``wanted()`` is false."""
        reference = None
        while True:
            try:
                reference = reference if reference is not None else self.start(method, *arguments)
                return ray.get(reference, timeout=None if wanted is None else LOOK_EVERY_S)
            except GetTimeoutError:
                if not wanted():
                    return None
            except Exception as error:  # noqa: BLE001 (each is given its meaning)
                raise self._meant(error) from None

    async def acall(self, method: str, *arguments: Any) -> Any:
        """Call a method and await its answer."""
        try:
            return await self.start(method, *arguments)
        except Exception as error:  # noqa: BLE001 (each is given its meaning)
            raise self._meant(error) from None

    def _meant(self, error: Exception) -> BalanceError:
        """Return what an error of Ray's stands for."""
        if isinstance(error, RayActorError):
            self._handle = None
            return Gone("the scheduler ended while it was asked; 'balance status' shows how things stand")
        while isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
            error = error.cause
        if isinstance(error, BalanceError):
            return error
        return ClusterError(
            f"unexpected {type(error).__name__} in the scheduler: {_last_line(error)}; its log has more"
        )

    def close(self) -> None:
        """Let go of Ray, if it was connected here."""
        if self._ours:
            with contextlib.suppress(Exception):
                ray.shutdown()


def results(ids: Sequence[str]) -> list[Outcome]:
    """Return how tasks ended, for the arguments of another one; called in executors."""
    scheduler = ray.get_actor(SCHEDULER, namespace=NAMESPACE)
    return [Outcome(*outcome) for outcome in ray.get(scheduler.results.remote(list(ids)))]


def fetch(reference: Any) -> bytes:
    """Return what a reference in Ray's object store stands for."""
    found: bytes = ray.get(reference)
    return found


def _last_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
