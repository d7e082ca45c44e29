"""How data is read, stored, streamed and copied."""

from __future__ import annotations

from balance.interfaces.data.data_interface import DataInterface
from balance.interfaces.data.stream_handler import StreamHandler
from balance.interfaces.data.sync_handler import SyncHandler

__all__ = ["DataInterface", "StreamHandler", "SyncHandler"]
