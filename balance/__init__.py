"""Balance: an actor-based control plane on Ray for many AI models and the data that feeds them.

Importing this package is cheap (no Ray, statsmodels or pandas): each name below is loaded when it
is first used.

Examples
--------
>>> import balance
>>> balance.__version__
'0.1.0'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_LAZY = {
    "AsyncClient": "balance.client",
    "BalanceError": "balance.errors",
    "Client": "balance.client",
    "Priority": "balance.types",
    "Resources": "balance.types",
    "Settings": "balance.config",
}

__all__ = ["AsyncClient", "BalanceError", "Client", "Priority", "Resources", "Settings", "__version__"]

if TYPE_CHECKING:
    from balance.client import AsyncClient, Client
    from balance.config import Settings
    from balance.errors import BalanceError
    from balance.types import Priority, Resources


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'balance' has no attribute {name!r}")
