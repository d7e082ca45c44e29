"""The Python client of a running Balance: submit functions, by the thousand, and ask for their results.

Examples
--------
::

    from balance import Client

    with Client() as client:
        futures = client.options(priority=2, cpu=0.5).map(work, range(1000))
        for future in client.stream(futures):
            print(future.id, future.result())
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_LAZY = {
    "AsyncClient": "balance.client.async_client",
    "AsyncTaskFuture": "balance.client.futures",
    "Client": "balance.client.client",
    "TaskFuture": "balance.client.futures",
    "TaskOptions": "balance.client.options",
}

__all__ = ["AsyncClient", "AsyncTaskFuture", "Client", "TaskFuture", "TaskOptions"]

if TYPE_CHECKING:
    from balance.client.async_client import AsyncClient
    from balance.client.client import Client
    from balance.client.futures import AsyncTaskFuture, TaskFuture
    from balance.client.options import TaskOptions


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'balance.client' has no attribute {name!r}")
