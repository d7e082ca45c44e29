"""An actor of Balance, as a program outside calls it: its errors are Balance's own, and none is Ray's.

Importing this imports Ray.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

# A driver under `uv run` would have Ray build an environment of its own for each worker.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from balance.errors import BalanceError, ClusterError

NAMESPACE = "balance"

LOOK_EVERY_S = 1.0
"""How often a thread that waits for an answer looks whether it is still wanted."""


class Peer:
    """One actor, found by its name when it is called.

    Parameters
    ----------
    role : str
        Its name.
    namespace : str
        The Ray namespace of Balance's actors.
    """

    def __init__(self, role: str, namespace: str = NAMESPACE) -> None:
        self._role = role
        self._namespace = namespace
        self._handle: Any = None

    def start(self, method: str, *arguments: Any) -> Any:
        """Begin a call and return Ray's reference of its answer; `ClusterError` if there is no such actor."""
        if self._handle is None:
            try:
                self._handle = ray.get_actor(self._role, namespace=self._namespace)
            except ValueError:
                raise ClusterError(
                    f"the actor {self._role!r} does not run; see 'balance status', start it with 'balance up'"
                ) from None
        return getattr(self._handle, method).remote(*arguments)

    def call(
        self,
        method: str,
        *arguments: Any,
        wanted: Callable[[], bool] | None = None,
        timeout_s: float | None = None,
    ) -> Any:
        """Call a method and return its answer.

        Parameters
        ----------
        wanted : callable, optional
            Asked every `LOOK_EVERY_S` seconds; once it says no, None is returned.
        timeout_s : float, optional
            How long to wait.

        Raises
        ------
        BalanceError
            What the actor raised.
        ClusterError
            It does not run, ended meanwhile, or did not answer in time.
        """
        reference = self.start(method, *arguments)
        while True:
            try:
                return ray.get(reference, timeout=timeout_s if wanted is None else LOOK_EVERY_S)
            except GetTimeoutError:
                if wanted is None:
                    raise ClusterError(
                        f"the actor {self._role!r} did not answer within {timeout_s:g} s; see 'balance actors'"
                    ) from None
                if not wanted():
                    return None
            except Exception as error:  # noqa: BLE001 (each is given its meaning)
                raise self._meant(error) from None

    async def acall(self, method: str, *arguments: Any) -> Any:
        """Call a method and await its answer; raises as `call` does."""
        try:
            return await self.start(method, *arguments)
        except Exception as error:  # noqa: BLE001 (each is given its meaning)
            raise self._meant(error) from None

    def _meant(self, error: BaseException) -> BalanceError:
        """Return what an error stands for; Ray wraps it in a traceback for each actor on its way."""
        if isinstance(error, RayActorError):
            self._handle = None
            return ClusterError(
                f"the actor {self._role!r} ended while it was asked; see 'balance actors', start it with 'balance up'"
            )
        while isinstance(error, RayTaskError) and error.cause is not None:
            error = error.cause
        if isinstance(error, BalanceError):
            return error
        return ClusterError(f"unexpected {type(error).__name__} in an actor: {last_line(error)}; its log has more")


def last_line(error: BaseException) -> str:
    """Return the line of an error that says what went wrong: Ray puts the traceback of the other side above it."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
