"""How urgent tasks are, by id, and who wants to know when that changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import List, Tuple

from balance.errors import InvalidValue
from balance.types import Priority, check_id, check_priority

Listener = Callable[[str, int], None]

UNKNOWN = int(Priority.BACKGROUND)


class PriorityManager:
    """Priorities of tasks: 1 CRITICAL ... 5 BACKGROUND, the smaller number first.

    Give one to a `TaskScheduler` (``priorities=``): then a change re-orders tasks that are queued already.

    Examples
    --------
    >>> manager = PriorityManager()
    >>> manager.set_priority("report", 4)
    >>> manager.set_priority("alarm", 1)
    >>> manager.adjust_priority("report", -2)
    >>> manager.get_sorted_tasks(), manager.get_priority("unheard of")
    ([('alarm', 1), ('report', 2)], 5)
    """

    def __init__(self) -> None:
        self._priorities: dict[str, int] = {}
        self._listeners: list[Listener] = []

    def set_priority(self, task_id: str, priority: int) -> None:
        """Say how urgent a task is; `InvalidValue` unless it is a positive int."""
        check_id("task_id", task_id)
        value = check_priority(priority)
        if self._priorities.get(task_id) != value:
            self._priorities[task_id] = value
            for listener in self._listeners:
                listener(task_id, value)

    def get_priority(self, task_id: str) -> int:
        """Return how urgent a task is; 5 (BACKGROUND) for one that was never set."""
        return self._priorities.get(check_id("task_id", task_id), UNKNOWN)

    def adjust_priority(self, task_id: str, adjustment: int) -> None:
        """Add to the priority number; a negative adjustment makes more urgent.  The result is 1 at least."""
        if isinstance(adjustment, bool) or not isinstance(adjustment, int):
            raise InvalidValue("adjustment", adjustment, "an int: negative for more urgent")
        self.set_priority(task_id, max(1, self.get_priority(task_id) + adjustment))

    def get_sorted_tasks(self) -> List[Tuple[str, int]]:
        """Return ``(task_id, priority)``, the most urgent first, equal ones in the order of their first setting."""
        return sorted(self._priorities.items(), key=lambda item: item[1])

    def knows(self, task_id: str) -> bool:
        """Say whether a priority was set for this task."""
        return task_id in self._priorities

    def forget(self, task_id: str) -> None:
        """Drop a task that is over."""
        self._priorities.pop(task_id, None)

    def subscribe(self, listener: Listener) -> None:
        """Call ``listener(task_id, priority)`` after every change from now on."""
        self._listeners.append(listener)
