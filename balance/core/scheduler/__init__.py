"""Who runs next, on which node and device, and who holds what.

The contract's four classes are here by name; the engine behind them is in `balance.core.scheduler.engine`.

Examples
--------
>>> from balance.core.scheduler import PriorityManager
>>> PriorityManager().get_priority("unheard of")
5
"""

from __future__ import annotations

from balance.core.scheduler.dependency_resolver import DependencyResolver
from balance.core.scheduler.priority_manager import PriorityManager
from balance.core.scheduler.resource_allocator import ResourceAllocator
from balance.core.scheduler.task_scheduler import TaskScheduler

__all__ = ["DependencyResolver", "PriorityManager", "ResourceAllocator", "TaskScheduler"]
