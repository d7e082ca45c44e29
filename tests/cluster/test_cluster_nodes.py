"""A model over several nodes: a second raylet joins the suite's Ray, and is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.cluster


class Node:
    """A raylet with two logical cores, in processes of its own."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._before = self._alive()
        address = ray.get_runtime_context().gcs_address
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={address}", "--num-cpus=2"]
        command += ["--num-gpus=0", "--object-store-memory=80000000", "--block"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)

    def _alive(self) -> set[str]:
        return {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}

    def node_id(self) -> str | None:
        """Return its id once it has joined."""
        assert self._process.poll() is None, "the second node did not start"
        return next(iter(self._alive() - self._before), None)

    def is_gone(self) -> bool:
        """Say whether Ray has noticed."""
        return self._alive() <= self._before

    def kill(self) -> None:
        """End it with ``kill -9``, and everything that it has started."""
        family = [self._process.pid]
        with contextlib.suppress(psutil.NoSuchProcess):
            family += [child.pid for child in psutil.Process(self._process.pid).children(recursive=True)]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(30)


@pytest.fixture
def second_node(balance_cluster: Any, eventually: Any) -> Iterator[Node]:
    """Another node; it is gone again when the next test begins."""
    node = Node(balance_cluster.ray)
    try:
        eventually(node.node_id, 60.0)
        yield node
    finally:
        node.kill()
        eventually(node.is_gone, 60.0)


def test_a_model_lies_on_several_nodes_and_a_lost_node_takes_its_part(
    balance_cluster: Any, second_node: Node, unique: Any, eventually: Any
) -> None:
    """It grows beyond its node, over a ``kill -9`` of both actors that care; of a dead node nothing is left in Ray."""
    model, ask, other = unique("model"), balance_cluster.ask, second_node.node_id()
    home = balance_cluster.ray.get_runtime_context().get_node_id()

    def groups() -> dict[str, str]:
        table = balance_cluster.ray.util.placement_group_table().values()
        return {each["name"]: each["state"] for each in table if model in each["name"] and each["state"] != "REMOVED"}

    def status() -> dict[str, Any]:
        found: dict[str, Any] = ask("model_coordinator", "get_model_status", model)
        return found["allocation"] or {}

    ask("model_coordinator", "register_model", model, 1.0, 0)
    eventually(lambda: other in ask("resource_allocator", "get_system_resources")["nodes"])
    assert ask("model_coordinator", "scale_model", model, 3)["replicas"] == 3
    assert set(status()["nodes"]) == {home, other}
    for role in ("resource_allocator", "model_coordinator"):
        for replicas in (1, 4):  # killed while it grows, and while it shrinks
            changing = balance_cluster.start("model_coordinator", "scale_model", model, replicas)
            balance_cluster.is_back(role, balance_cluster.kill(role))
            assert balance_cluster.get(changing)["replicas"] == replicas
    assert status()["nodes"] == {home: 2, other: 2}
    assert list(groups().values()) == ["CREATED"] * 4
    second_node.kill()
    eventually(lambda: status().get("nodes") == {home: 2}, 60.0)
    eventually(lambda: list(groups().values()) == ["CREATED"] * 2)
    denied = ask("model_coordinator", "scale_model", model, 4)
    assert (denied["status"], denied["replicas"]) == ("denied", 2)
    ask("model_coordinator", "release_resources", model)
    assert groups() == {}
