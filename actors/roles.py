"""Who there is: every actor of Balance, in the order in which they start.

An actor may ask any actor above it while it starts; names are registered with Ray in this order.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Role:
    """One kind of actor.

    Attributes
    ----------
    name : str
        The actor's name in the Ray namespace ``balance``.
    path : str
        ``module:class`` of the shell.
    does : str
        What it does, for the table that people read.
    """

    name: str
    path: str
    does: str

    def load(self) -> type[Any]:
        """Import the shell's class."""
        module, _, name = self.path.partition(":")
        loaded: type[Any] = getattr(importlib.import_module(module), name)
        return loaded


ROLES: tuple[Role, ...] = (
    Role("messaging", "actors.messaging:MessagingActor", "the log, its topics, the services"),
    Role("resource_allocator", "actors.resource_allocator:ResourceAllocatorActor", "who holds what of the cluster"),
    Role("scheduler", "actors.scheduler:SchedulerActor", "what runs next, and where"),
    Role("operation_coordinator", "actors.operation_coordinator:OperationCoordinatorActor", "runs tasks for clients"),
    Role("model_coordinator", "actors.model_coordinator:ModelCoordinatorActor", "models and what they reserve"),
    Role("data_coordinator", "actors.data_coordinator:DataCoordinatorActor", "collects data, keeps it near"),
    Role("sync_coordinator", "actors.sync_coordinator:SyncCoordinatorActor", "copies data and verifies it"),
    Role("batches", "actors.batches:BatchesActor", "merges and batches requests"),
    Role("monitoring", "actors.monitoring:MonitoringActor", "measures, keeps histories"),
    Role("prediction", "actors.prediction:PredictionActor", "forecasts demand"),
    Role("balancer", "actors.balancer:BalancerActor", "observes, forecasts, plans, acts"),
)

KINDS = {
    "collector-": "answers requests for data",
    "executor-": "runs tasks",
    "forecaster-": "fits forecasts",
    "probe-": "measures its node",
}
"""What actors do of which there are several, by what their names begin with."""


def does(name: str) -> str:
    """Return what an actor of this name does, for the table that people read.

    Examples
    --------
    >>> does("scheduler"), does("collector-2"), does("somebody")
    ('what runs next, and where', 'answers requests for data', '')
    """
    kinds = (text for prefix, text in KINDS.items() if name.startswith(prefix))
    return next((role.does for role in ROLES if role.name == name), next(kinds, ""))
