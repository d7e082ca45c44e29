"""Durable state: a fenced store of documents, tasks, requests, decisions and samples on SQLAlchemy.

A process opens one `Store`, takes over as an owner, and writes through `Store.transaction` or, where
many small writes come together, through a `GroupCommit`:

>>> from balance.storage import Store
>>> store = Store()
>>> fence = store.acquire("data_coordinator")
>>> with store.transaction(fence) as tx:
...     tx.put("sources", "co2", {"size_bytes": 4096})
>>> store.get("sources", "co2")
{'size_bytes': 4096}
"""

from __future__ import annotations

from balance.storage.fence import Fence
from balance.storage.group_commit import GroupCommit
from balance.storage.journal import StoreJournal
from balance.storage.store import Store
from balance.storage.transaction import Transaction

__all__ = ["Fence", "GroupCommit", "Store", "StoreJournal", "Transaction"]
