"""The coordinators: operations, models, data, and copies of data.

Each class is loaded when it is first used:

>>> from balance.core.coordinator import DataCoordinator
>>> DataCoordinator().list_data()
[]
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_LAZY = {
    "DataCoordinator": "balance.core.coordinator.data_coordinator",
    "ModelCoordinator": "balance.core.coordinator.model_coordinator",
    "OperationCoordinator": "balance.core.coordinator.operation_coordinator",
    "SyncManager": "balance.core.coordinator.sync_manager",
}

__all__ = ["DataCoordinator", "ModelCoordinator", "OperationCoordinator", "SyncManager"]

if TYPE_CHECKING:
    from balance.core.coordinator.data_coordinator import DataCoordinator
    from balance.core.coordinator.model_coordinator import ModelCoordinator
    from balance.core.coordinator.operation_coordinator import OperationCoordinator
    from balance.core.coordinator.sync_manager import SyncManager


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'balance.core.coordinator' has no attribute {name!r}")
