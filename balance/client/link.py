"""The way to the scheduler through Ray."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Any

import ray

from balance.client.peer import NAMESPACE, Peer, last_line
from balance.client.wire import Outcome
from balance.errors import ClusterError

SCHEDULER = "scheduler"

HELLO_S = 30.0
"""How long the scheduler may take to say that it is there: it may just be restarting."""


class Link(Peer):
    """Calls the scheduler's methods.

    Parameters
    ----------
    address : str
        Of a Ray cluster; ``auto`` for the one on this machine.  Not used where Ray is connected already.
    namespace : str
        The Ray namespace of Balance's actors.

    Attributes
    ----------
    epoch : int
        The scheduler's incarnation when the link was made.

    Raises
    ------
    ClusterError
        No Ray answers there, or no Balance runs on it.
    """

    def __init__(self, address: str = "auto", namespace: str = NAMESPACE) -> None:
        super().__init__(SCHEDULER, namespace)
        self._ours = not ray.is_initialized()
        if self._ours:
            try:
                ray.init(address, namespace=f"{namespace}-clients", log_to_driver=False, logging_level=logging.ERROR)
            except Exception as error:
                raise ClusterError(
                    f"no Ray cluster can be reached at {address!r} ({last_line(error)}); start one with 'balance up'",
                    address=address,
                ) from error
        try:
            self.epoch = int(self.call("ping", timeout_s=HELLO_S)["epoch"])
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of Ray, if it was connected here."""
        if self._ours:
            with contextlib.suppress(Exception):
                ray.shutdown()


def results(ids: Sequence[str]) -> list[Outcome]:
    """Return how tasks ended, for the arguments of another one; called in executors."""
    return [Outcome(*outcome) for outcome in Peer(SCHEDULER).call("results", list(ids))]


def fetch(task_id: str, reference: Any) -> bytes:
    """Return a large result by its reference; where the scheduler that owned it is gone, its successor has it."""
    try:
        found: bytes = ray.get(reference)
    except ray.exceptions.ObjectLostError:
        found = results([task_id])[0].value
    return found
