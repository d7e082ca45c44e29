"""`PriorityManager` and `DependencyResolver` on their own."""

from __future__ import annotations

import pytest

from balance.core.scheduler import DependencyResolver, PriorityManager
from balance.core.scheduler.dependency_resolver import find_cycle
from balance.errors import DependencyCycle, InvalidValue


def test_priorities_are_clamped_sorted_and_stable():
    """Unknown is 5; nothing gets more urgent than 1; equal ones keep their order."""
    manager = PriorityManager()
    manager.adjust_priority("new", -1)
    manager.set_priority("b", 2)
    manager.set_priority("a", 2)
    manager.adjust_priority("b", -7)
    assert manager.get_sorted_tasks() == [("b", 1), ("a", 2), ("new", 4)]
    assert manager.get_priority("nobody") == 5
    manager.adjust_priority("b", +9)
    assert manager.get_priority("b") == 10


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, None, "high"])
def test_a_wrong_priority_changes_nothing(wrong):
    """And says what would have been right."""
    manager = PriorityManager()
    manager.set_priority("t", 3)
    with pytest.raises(InvalidValue):
        manager.set_priority("t", wrong)
    with pytest.raises(InvalidValue):
        manager.set_priority("", 1)
    with pytest.raises(InvalidValue):
        manager.adjust_priority("t", 0.5)
    assert manager.get_priority("t") == 3


def test_listeners_hear_of_changes_only():
    """Setting what is set already is no change."""
    manager, heard = PriorityManager(), []
    manager.subscribe(lambda task_id, priority: heard.append((task_id, priority)))
    manager.set_priority("t", 2)
    manager.set_priority("t", 2)
    manager.adjust_priority("t", 1)
    assert heard == [("t", 2), ("t", 3)]


def test_every_unmet_prerequisite_comes_before_those_that_need_it():
    """Direct or not, each once; completed ones are left out."""
    resolver = DependencyResolver()
    resolver.add_dependency("d", ["b", "c"])
    resolver.add_dependency("b", ["a"])
    resolver.add_dependency("c", ["a", "x"])
    order = resolver.resolve_dependencies("d")
    assert sorted(order) == ["a", "b", "c", "x"]
    assert order.index("a") < order.index("b") and order.index("x") < order.index("c")
    resolver.mark_completed("a")
    assert sorted(resolver.resolve_dependencies("d")) == ["b", "c", "x"]
    assert resolver.can_execute("b") and not resolver.can_execute("c")
    assert resolver.get_dependencies("b") == ["a"]
    assert resolver.resolve_dependencies("never mentioned") == []


def test_a_cycle_is_named():
    """Around, with the first one repeated; nothing in it can execute."""
    resolver = DependencyResolver()
    resolver.add_dependency("a", ["b"])
    resolver.add_dependency("b", ["c"])
    resolver.add_dependency("c", ["b"])
    with pytest.raises(DependencyCycle, match="b -> c -> b"):
        resolver.resolve_dependencies("a")
    assert not resolver.can_execute("b")
    with pytest.raises(DependencyCycle):
        resolver.add_dependency("self", ["self"])
    assert resolver.get_dependencies("self") == []


def test_failure_reaches_all_dependents_and_latecomers():
    """Whoever is added below a failure later has failed too."""
    resolver = DependencyResolver()
    resolver.add_dependency("b", ["a"])
    resolver.add_dependency("c", ["b"])
    assert resolver.mark_failed("a") == ["b", "c"]
    assert resolver.mark_failed("a") == []
    resolver.add_dependency("d", ["c"])
    assert resolver.state("d") == "upstream_failed"
    assert not resolver.can_execute("d")


def test_deep_graphs_do_not_exhaust_the_stack():
    """A chain of a hundred thousand tasks."""
    resolver = DependencyResolver()
    for number in range(100_000):
        resolver.add_dependency(f"t{number + 1}", [f"t{number}"])
    assert resolver.resolve_dependencies("t100000")[:2] == ["t0", "t1"]
    assert find_cycle({str(n): [str((n + 1) % 50_000)] for n in range(50_000)}) is not None


@pytest.mark.parametrize("wrong", ["abc", None, [""], [3]])
def test_wrong_dependencies_are_refused(wrong):
    """A string in place of a list would be taken apart letter by letter."""
    resolver = DependencyResolver()
    with pytest.raises(InvalidValue):
        resolver.add_dependency("t", wrong)
    assert resolver.get_dependencies("t") == []
