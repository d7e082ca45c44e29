"""Models and what they hold: idempotent calls, refusals that leave everything as it was, memory over restarts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from balance.clock import FakeClock
from balance.core.coordinator import ModelCoordinator
from balance.core.scheduler import ResourceAllocator
from balance.core.scheduler.node_facts import NodeFacts
from balance.errors import Conflict, InvalidValue, UnknownId
from balance.storage import Store, StoreJournal
from balance.types import Resources


class Lab:
    """A node with four cores."""

    def nodes(self) -> list[NodeFacts]:
        return [NodeFacts("lab", Resources.capacity(cpu=4, memory=2**30, gpu=1))]


@pytest.fixture
def allocator(fake_clock: FakeClock) -> ResourceAllocator:
    return ResourceAllocator(probe=Lab(), clock=fake_clock)


@pytest.fixture
def models(allocator: ResourceAllocator, fake_clock: FakeClock) -> ModelCoordinator:
    return ModelCoordinator(allocator=allocator, clock=fake_clock)


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store()
    yield store
    store.close()


def test_the_same_registration_again_changes_nothing(models: ModelCoordinator) -> None:
    """A repeated call is no error; another demand or priority under the id is one, and changes nothing."""
    models.register_model("m", 1.0, 100.0, 2)
    models.register_model("m", 1, 100, 2)
    for demand in ((2.0, 100.0, 2), (1.0, 101.0, 2), (1.0, 100.0, 3)):
        with pytest.raises(Conflict, match="update_model") as caught:
            models.register_model("m", *demand)
        assert caught.value.details["demand"] == {"cpu": 1.0, "memory": 100, "gpu": 0.0}
    assert models.get_model_status("m")["demand"]["cpu"] == 1.0


@pytest.mark.parametrize(
    "arguments", [("", 1, 0), ("m", -1, 0), ("m", float("nan"), 0), ("m", 1, -1), ("m", 1, 0, 0), ("m", "x", 0)]
)
def test_what_makes_no_sense_is_refused(models: ModelCoordinator, arguments: tuple[Any, ...]) -> None:
    """An empty id, a negative demand, NaN, a priority below 1: `InvalidValue`, and no model is known after it."""
    with pytest.raises(InvalidValue):
        models.register_model(*arguments)
    assert models.list_models() == []


def test_allocating_and_releasing_are_idempotent(models: ModelCoordinator, allocator: ResourceAllocator) -> None:
    """Twice allocated is held once, twice released is released; the allocator agrees at each step."""
    models.register_model("m", 3, 0)
    first = models.allocate_resources_for_model("m")
    assert first["status"] == "allocated" and models.allocate_resources_for_model("m") == first
    assert [each.allocation_id for each in allocator.list_allocations()] == [first["allocation_id"]]
    assert models.get_model_status("m")["state"] == "allocated"
    models.release_resources("m")
    models.release_resources("m")
    assert allocator.list_allocations() == [] and models.get_model_status("m")["state"] == "registered"


def test_a_refusal_is_an_answer_and_may_turn_into_a_grant(models: ModelCoordinator) -> None:
    """What does not fit is denied with the reason; once there is room the same call succeeds."""
    models.register_model("big", 3, 0)
    models.register_model("late", 2, 0)
    models.allocate_resources_for_model("big")
    denied = models.allocate_resources_for_model("late")
    assert (denied["status"], denied["resource"], denied["lacking"]) == ("denied", "cpu", 1.0)
    assert models.get_model_status("late")["denied"]["reason"] == denied["reason"]
    models.release_resources("big")
    assert models.allocate_resources_for_model("late")["status"] == "allocated"
    status = models.get_model_status("late")
    assert (status["state"], status["denied"]) == ("allocated", None)


def test_an_update_changes_what_is_asked_for_next(models: ModelCoordinator, allocator: ResourceAllocator) -> None:
    """What a model holds stays until it is released; a bad update changes nothing."""
    models.register_model("m", 1, 0)
    models.allocate_resources_for_model("m")
    assert models.update_model("m", cpu_demand=2, gpu_demand=0.5, priority=4)["priority"] == 4
    assert allocator.list_allocations()[0].demand == Resources.demand(cpu=1)
    with pytest.raises(InvalidValue):
        models.update_model("m", gpu_demand=1.5)
    models.release_resources("m")
    models.allocate_resources_for_model("m")
    assert allocator.list_allocations()[0].demand == Resources.demand(cpu=2, gpu=0.5)


def test_what_is_held_in_spite_of_a_refusal_is_kept(models: ModelCoordinator) -> None:
    """Of a reservation that there was room for in part, that part is held; of one without room, nothing is."""
    models.register_model("m", 1, 0)
    part = {"status": "allocated", "replicas": 2}
    models.granted("m", {"status": "denied", "reason": "full", "replicas": 2, "held": part})
    status = models.get_model_status("m")
    assert (status["state"], status["allocation"], status["denied"]["reason"]) == ("allocated", part, "full")
    models.granted("m", {"status": "denied", "reason": "full", "replicas": 0, "held": None})
    status = models.get_model_status("m")
    assert (status["state"], status["allocation"]) == ("denied", None)


def test_unknown_models_are_named_with_their_nearest(models: ModelCoordinator) -> None:
    """Every call on a model that nobody registered raises `UnknownId` with a suggestion."""
    models.register_model("whisper", 1, 0)
    for call in (
        models.allocate_resources_for_model,
        models.get_model_status,
        models.release_resources,
        models.update_model,
        models.remove_model,
    ):
        with pytest.raises(UnknownId, match="whisper"):
            call("whispr")


def test_a_model_that_holds_something_is_not_forgotten(models: ModelCoordinator) -> None:
    """`remove_model` refuses while resources are held, and forgets afterwards."""
    models.register_model("m", 1, 0)
    models.allocate_resources_for_model("m")
    with pytest.raises(Conflict, match="release_resources"):
        models.remove_model("m")
    models.release_resources("m")
    models.remove_model("m")
    assert models.list_models() == []


def test_models_are_remembered_over_a_restart(store: Store, allocator: ResourceAllocator) -> None:
    """What was acknowledged (registered, allocated, denied, removed) is there for the next incarnation."""

    def incarnation() -> ModelCoordinator:
        journal = StoreJournal(store, store.acquire("model_coordinator"))
        return ModelCoordinator(allocator=allocator, clock=FakeClock(), journal=journal)

    models = incarnation()
    for name, cpu in (("held", 1), ("denied", 100), ("plain", 1), ("gone", 1)):
        models.register_model(name, cpu, 0)
    granted = models.allocate_resources_for_model("held")
    models.allocate_resources_for_model("denied")
    models.remove_model("gone")
    again = incarnation()
    assert again.list_models() == models.list_models()
    assert again.allocate_resources_for_model("held") == granted
    assert [each["state"] for each in again.list_models()] == ["denied", "allocated", "registered"]
