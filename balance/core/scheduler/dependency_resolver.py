"""Which task has to wait for which: a directed graph, kept as counts of what is unmet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import List

from balance.errors import DependencyCycle, InvalidValue
from balance.types import check_id


def find_cycle(edges: Mapping[str, Iterable[str]], starts: Iterable[str] | None = None) -> list[str] | None:
    """Return a cycle among `edges` (task to prerequisites), the first task repeated at the end; None if there is none.

    Depth-first with an explicit stack (graphs may be deeper than Python's); O(tasks + edges).

    Examples
    --------
    >>> find_cycle({"a": ["b"], "b": ["c"], "c": ["b"]})
    ['b', 'c', 'b']
    >>> find_cycle({"a": ["b"], "b": []}) is None
    True
    """
    done: set[str] = set()
    for start in edges if starts is None else starts:
        path: dict[str, None] = {}
        stack = [(start, iter(edges.get(start, ())))] if start not in done else []
        path[start] = None
        while stack:
            task, rest = stack[-1]
            step = next(rest, None)
            if step is None:
                stack.pop()
                path.pop(task, None)
                done.add(task)
            elif step in path:
                around = list(path)
                return [*around[around.index(step) :], step]
            elif step not in done:
                path[step] = None
                stack.append((step, iter(edges.get(step, ()))))
    return None


class DependencyResolver:
    """Prerequisites of tasks, and what their ends mean for those who wait.

    A task that was never mentioned has no prerequisites.  Edges may be added in any order, so a cycle
    is only found, and raised, by `resolve_dependencies`; a task in a cycle is never executable.

    Examples
    --------
    >>> resolver = DependencyResolver()
    >>> resolver.add_dependency("train", ["fetch", "clean"])
    >>> resolver.add_dependency("clean", ["fetch"])
    >>> resolver.resolve_dependencies("train")
    ['fetch', 'clean']
    >>> resolver.mark_completed("fetch")
    ['clean']
    >>> resolver.can_execute("clean"), resolver.can_execute("train")
    (True, False)
    >>> resolver.mark_failed("clean")
    ['train']
    >>> resolver.state("train")
    'upstream_failed'
    """

    def __init__(self) -> None:
        self._prerequisites: dict[str, dict[str, None]] = {}
        self._dependents: dict[str, dict[str, None]] = {}
        self._unmet: dict[str, int] = {}
        self._over: dict[str, str] = {}

    def add_dependency(self, task_id: str, dependencies: List[str]) -> None:
        """Let `task_id` wait for `dependencies` too; those that it waits for already count once.

        Raises
        ------
        InvalidValue
            For an empty id, or a string in place of the list.
        DependencyCycle
            If the task is told to wait for itself.
        """
        check_id("task_id", task_id)
        given: object = dependencies
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise InvalidValue("dependencies", given, "a list of task ids")
        wanted = [check_id("dependency", dependency) for dependency in dependencies]
        if task_id in wanted:
            raise DependencyCycle([task_id, task_id])
        mine = self._prerequisites.setdefault(task_id, {})
        for dependency in wanted:
            if dependency in mine:
                continue
            mine[dependency] = None
            self._dependents.setdefault(dependency, {})[task_id] = None
            how = self._over.get(dependency)
            if how != "completed":
                self._unmet[task_id] = self._unmet.get(task_id, 0) + 1
                if how is not None and task_id not in self._over:
                    self._fail_from(task_id, "upstream_failed")

    def get_dependencies(self, task_id: str) -> List[str]:
        """Return the direct prerequisites of a task, met or not, in the order in which they were added."""
        return list(self._prerequisites.get(check_id("task_id", task_id), ()))

    def can_execute(self, task_id: str) -> bool:
        """Say whether all prerequisites of a task are completed.  O(1)."""
        return self._unmet.get(check_id("task_id", task_id), 0) == 0

    def resolve_dependencies(self, task_id: str) -> List[str]:
        """Return every prerequisite, direct or not, that is not completed, in an order in which they can run.

        Raises
        ------
        DependencyCycle
            If the task, or one of its prerequisites, waits for itself in the end; the error names the cycle.
        """
        check_id("task_id", task_id)
        unmet: dict[str, list[str]] = {}
        todo = deque([task_id])
        while todo:
            task = todo.popleft()
            if task not in unmet:
                unmet[task] = self.unmet(task)
                todo.extend(unmet[task])
        cycle = find_cycle(unmet, [task_id])
        if cycle is not None:
            raise DependencyCycle(cycle)
        order: dict[str, None] = {}
        stack = [(task_id, iter(unmet[task_id]))]
        while stack:
            task, rest = stack[-1]
            step = next((dependency for dependency in rest if dependency not in order), None)
            if step is None:
                stack.pop()
                order[task] = None
            else:
                stack.append((step, iter(unmet[step])))
        del order[task_id]
        return list(order)

    def unmet(self, task_id: str) -> list[str]:
        """Return the direct prerequisites that are not completed."""
        return [task for task in self._prerequisites.get(task_id, ()) if self._over.get(task) != "completed"]

    def dependents(self, task_id: str) -> list[str]:
        """Return the tasks that wait for `task_id` directly."""
        return list(self._dependents.get(task_id, ()))

    def state(self, task_id: str) -> str:
        """Return ``completed``, ``failed``, ``upstream_failed``, ``executable`` or ``waiting``."""
        return self._over.get(task_id) or ("executable" if self._unmet.get(task_id, 0) == 0 else "waiting")

    def mark_completed(self, task_id: str) -> list[str]:
        """Note that a task is completed; return those that can execute only because of it.  O(dependents)."""
        if self._over.get(check_id("task_id", task_id)) == "completed":
            return []
        self._over[task_id] = "completed"
        freed = []
        for dependent in self._dependents.get(task_id, ()):
            self._unmet[dependent] -= 1
            if self._unmet[dependent] == 0 and dependent not in self._over:
                freed.append(dependent)
        return freed

    def mark_failed(self, task_id: str) -> list[str]:
        """Note that a task will never be completed; return all who wait for it, directly or not, nearest first."""
        if self._over.get(check_id("task_id", task_id)) == "failed":
            return []
        return self._fail_from(task_id, "failed")[1:]

    def _fail_from(self, task_id: str, how: str) -> list[str]:
        self._over[task_id] = how
        reached = [task_id]
        for task in reached:
            for dependent in self._dependents.get(task, ()):
                if dependent not in self._over:
                    self._over[dependent] = "upstream_failed"
                    reached.append(dependent)
        return reached

    def involves(self, task_id: str) -> bool:
        """Say whether a task waits for others, or others for it."""
        return task_id in self._prerequisites or task_id in self._dependents

    def forget(self, task_id: str) -> None:
        """Drop what is known of a task that is over; to its dependents it stays as met as it was."""
        for dependency in self._prerequisites.pop(task_id, ()):
            waiting = self._dependents.get(dependency)
            if waiting is not None:
                waiting.pop(task_id, None)
                if not waiting:
                    del self._dependents[dependency]
        for dependent in self._dependents.pop(task_id, ()):
            self._prerequisites[dependent].pop(task_id, None)
        self._unmet.pop(task_id, None)
        self._over.pop(task_id, None)
