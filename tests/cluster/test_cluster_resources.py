"""Allocations and models' reservations: what Balance grants, Ray shows, and everything goes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from balance.errors import Conflict, InvalidValue, UnknownId

pytestmark = pytest.mark.cluster

MIB = 2**20


def _until(path: Path) -> Any:
    text = str(path)

    def wait() -> None:
        import time
        from pathlib import Path

        while not Path(text).exists():
            time.sleep(0.01)

    return wait


def test_an_allocation_is_a_placement_group_of_ray(balance_cluster: Any) -> None:
    """What is allocated shows in Ray's own table, and is gone when released; Ray holds its device whole."""
    made = balance_cluster.ask("resource_allocator", "allocate_resources", 0.5, 64 * MIB, 0.25)
    assert made["status"] == "allocated" and len(made["devices"]) == 1
    place = next(name for name in balance_cluster.places() if made["allocation_id"] in name)
    device = f"balance:device-{made['devices'][0]}-of-{made['node_id']}.1"
    assert balance_cluster.places()[place] == {"CPU": 0.5, "memory": 64.0 * MIB}
    assert balance_cluster.places()[device] == {"GPU": 1.0}
    released = balance_cluster.ask("resource_allocator", "release_allocation", made["allocation_id"])
    assert released["status"] == "released"
    assert not {place, device} & balance_cluster.places().keys()
    again = balance_cluster.ask("resource_allocator", "release_allocation", made["allocation_id"])
    assert again["status"] == "not_held"


def test_allocations_share_a_device_that_ray_holds_once(balance_cluster: Any, unique: Any) -> None:
    """Decided together, fractions that fit one device lie there; Ray gets it back with the last of them."""
    names = [unique("part") for _ in range(3)]
    demands = [{"gpu": 0.5}, {"gpu": 0.3}, {"gpu": 0.2}]
    made = balance_cluster.ask("resource_allocator", "allocate_many", demands, "tester", names)
    assert [each["status"] for each in made] == ["allocated"] * 3
    assert len({(each["node_id"], *each["devices"]) for each in made}) == 1
    assert made == balance_cluster.ask("resource_allocator", "allocate_many", demands, "tester", names), (
        "once is enough"
    )
    devices = [name for name in balance_cluster.places() if name.startswith("balance:device-")]
    assert len(devices) == 1
    for name in names:
        assert devices[0] in balance_cluster.places()
        assert balance_cluster.ask("resource_allocator", "release_allocation", name)["status"] == "released"
    assert devices[0] not in balance_cluster.places()


def test_a_reservation_grows_from_a_part_to_all_devices_and_back(balance_cluster: Any, unique: Any) -> None:
    """What was held for a part makes way for the whole, though Ray has no room for both at once."""
    name = unique("model")
    devices = balance_cluster.ray.cluster_resources()["GPU"]
    for gpu, held in ((0.5, 1.0), (devices, devices), (0.25, 1.0)):
        made = balance_cluster.ask("resource_allocator", "reserve", name, {"gpu": gpu})
        assert (made["status"], made["gpu"]) == ("allocated", gpu)
        assert sum(bundle.get("GPU", 0) for bundle in balance_cluster.places().values()) == held
    assert balance_cluster.ask("resource_allocator", "reserve", name, {})["status"] == "released"
    assert not any("device-" in place for place in balance_cluster.places())


def test_a_denied_allocation_says_what_lacks(balance_cluster: Any) -> None:
    """A demand above the cluster is denied with the resource and the amount that lacks; a mistake raises."""
    denied = balance_cluster.ask("resource_allocator", "allocate_resources", 1000, 0)
    assert (denied["status"], denied["resource"], denied["permanent"]) == ("denied", "cpu", True)
    assert denied["lacking"] == 1000 - balance_cluster.ray.cluster_resources()["CPU"]
    assert balance_cluster.ask("resource_allocator", "can_allocate_resources", 1000, 0) is False
    with pytest.raises(InvalidValue):
        balance_cluster.ask("resource_allocator", "allocate_resources", -1, 0)
    with pytest.raises(InvalidValue, match="whole number of devices"):
        balance_cluster.ask("resource_allocator", "allocate_resources", 0, 0, 1.5)
    with pytest.raises(InvalidValue, match="whole number of devices"):
        balance_cluster.ask("resource_allocator", "allocate_many", [{"gpu": 1}, {"gpu": 1.5}], "tester")


def test_an_allocation_under_an_id_is_made_once(balance_cluster: Any, unique: Any) -> None:
    """Asked twice at once under one id, the allocator gives the same allocation and makes one place for it."""
    name = unique("alloc")
    calls = [
        balance_cluster.start("resource_allocator", "allocate", {"cpu": 0.25}, "tester", allocation_id=name)
        for _ in range(4)
    ]
    answers = balance_cluster.get(calls)
    assert {answer["status"] for answer in answers} == {"allocated"}
    assert sum(name in place for place in balance_cluster.places()) == 1
    balance_cluster.ask("resource_allocator", "release_allocation", name)
    assert not any(name in place for place in balance_cluster.places())


def test_an_external_allocation_recalls_idle_leases(
    balance_cluster: Any, unique: Any, signals: Path, eventually: Any
) -> None:
    """The scheduler's idle leases make room for whoever asks; a lease on which a task runs does not."""
    whole = balance_cluster.ray.cluster_resources()["CPU"]
    gate = signals / "gate"
    task = balance_cluster.start("operation_coordinator", "execute_task", unique("busy"), _until(gate), 1, 0)
    assert balance_cluster.execute(unique("brief"), int, cpu=1)["status"] == "completed"
    eventually(lambda: balance_cluster.held() == 1.0)
    assert balance_cluster.held("held") == whole, "the second core is leased and idle now"
    denied = balance_cluster.ask("resource_allocator", "allocate_resources", whole, 0)
    assert denied["status"] == "denied" and denied["permanent"] is False
    made = balance_cluster.ask("resource_allocator", "allocate_resources", whole - 1, 0)
    assert made["status"] == "allocated"
    assert balance_cluster.held("held") == 1.0
    balance_cluster.ask("resource_allocator", "release_allocation", made["allocation_id"])
    gate.touch()
    assert balance_cluster.get(task)["status"] == "completed"


def test_a_place_that_is_there_already_is_taken_over(balance_cluster: Any, unique: Any) -> None:
    """Made again after a lost answer, a place is the one that exists; Ray gets no second one of that name."""
    from balance.adapters.ray_places import RayPlaces
    from balance.core.scheduler.allocation import Allocation
    from balance.types import Resources

    name, places = unique("place"), RayPlaces()
    node = balance_cluster.ray.get_runtime_context().get_node_id()
    demand = Resources.demand(cpu=0.25)
    allocation = Allocation(name, "tester", "allocation", demand, node, (), "pending", 1, 0.0)
    places.create(allocation)
    places.create(allocation)
    try:
        groups = balance_cluster.ray.util.placement_group_table().values()
        assert sum(group["name"] == f"balance:{allocation.place}" for group in groups) == 1
    finally:
        places.remove(allocation.place)
        places.remove(allocation.place)
    assert not any(name in each for each in balance_cluster.places())


def test_the_accounts_of_the_cluster_agree_with_ray(balance_cluster: Any) -> None:
    """Totals are Ray's, reserved is what Balance holds, use is measured."""
    found = balance_cluster.ask("resource_allocator", "get_system_resources")
    ours, rays = found["cluster"], balance_cluster.ray.cluster_resources()
    assert (ours["total"]["cpu"], ours["total"]["gpu"]) == (rays["CPU"], rays["GPU"])
    assert ours["total"]["memory"] == int(rays["memory"])
    assert ours["used"]["memory"] > 0 and ours["used"]["cpu"] >= 0
    assert ours["available"]["cpu"] == ours["total"]["cpu"] - ours["reserved"]["cpu"]
    assert list(found["nodes"]) == [balance_cluster.ray.get_runtime_context().get_node_id()]


def test_a_models_life(balance_cluster: Any, unique: Any) -> None:
    """Register, allocate (twice is once), status, release (twice is once); each step as the contract says."""
    model, ask = unique("model"), balance_cluster.ask
    assert ask("model_coordinator", "register_model", model, 0.5, 32 * MIB, 2) is None
    assert ask("model_coordinator", "register_model", model, 0.5, 32 * MIB, 2) is None
    with pytest.raises(Conflict, match="update_model"):
        ask("model_coordinator", "register_model", model, 1.0, 32 * MIB, 2)
    calls = [balance_cluster.start("model_coordinator", "allocate_resources_for_model", model) for _ in range(3)]
    first, *others = balance_cluster.get(calls)
    assert first["status"] == "allocated" and all(each == first for each in others)
    [place] = [name for name in balance_cluster.places() if model in name]
    assert balance_cluster.places()[place] == {"CPU": 0.5, "memory": 32.0 * MIB}
    status = ask("model_coordinator", "get_model_status", model)
    assert status["state"] == "allocated" and status["allocation"]["allocation_id"] == first["allocation_id"]
    ask("model_coordinator", "release_resources", model)
    ask("model_coordinator", "release_resources", model)
    assert ask("model_coordinator", "get_model_status", model)["state"] == "registered"
    assert not any(model in name for name in balance_cluster.places())
    with pytest.raises(UnknownId, match="did you mean"):
        ask("model_coordinator", "allocate_resources_for_model", model[:-1])


def test_a_model_is_scaled(balance_cluster: Any, unique: Any) -> None:
    """Each replica is a reservation of its own; of more than there is room for, what fits is granted."""
    model, ask = unique("model"), balance_cluster.ask

    def held() -> list[dict[str, float]]:
        return [bundle for name, bundle in balance_cluster.places().items() if model in name]

    ask("model_coordinator", "register_model", model, 0.25, 0)
    for replicas in (2, 4, 3):
        answer = ask("model_coordinator", "scale_model", model, replicas)
        assert (answer["status"], answer["replicas"], answer["cpu"]) == ("allocated", replicas, 0.25 * replicas)
        assert held() == [{"CPU": 0.25}] * replicas
    all_that_fits = int(balance_cluster.ray.cluster_resources()["CPU"] / 0.25)
    too_many = ask("model_coordinator", "scale_model", model, 4000)
    assert (too_many["status"], too_many["resource"], too_many["replicas"]) == ("denied", "cpu", all_that_fits)
    assert held() == [{"CPU": 0.25}] * all_that_fits
    status = ask("model_coordinator", "get_model_status", model)
    assert (status["state"], status["allocation"]["replicas"]) == ("allocated", all_that_fits)
    assert ask("model_coordinator", "scale_model", model, 0)["replicas"] == 0
    assert held() == []


def test_a_model_that_does_not_fit_is_denied_and_stays_registered(balance_cluster: Any, unique: Any) -> None:
    """Nothing is held after a refusal, and the status tells why."""
    model, ask = unique("model"), balance_cluster.ask
    ask("model_coordinator", "register_model", model, 500, 0)
    answer = ask("model_coordinator", "allocate_resources_for_model", model)
    assert answer["status"] == "denied" and answer["resource"] == "cpu"
    status = ask("model_coordinator", "get_model_status", model)
    assert status["state"] == "denied" and status["denied"]["reason"] == answer["reason"]


def test_a_place_that_vanished_is_made_again(balance_cluster: Any, unique: Any, eventually: Any) -> None:
    """The janitor finds out that somebody removed a reservation behind Balance's back, and creates it anew."""
    from ray.util import remove_placement_group
    from ray.util.placement_group import get_placement_group

    model, ask = unique("model"), balance_cluster.ask
    ask("model_coordinator", "register_model", model, 0.25, 0)
    ask("model_coordinator", "allocate_resources_for_model", model)
    [place] = [name for name in balance_cluster.places() if model in name]
    remove_placement_group(get_placement_group(place))
    eventually(lambda: place not in balance_cluster.places())
    eventually(lambda: place in balance_cluster.places())
    ask("model_coordinator", "release_resources", model)
