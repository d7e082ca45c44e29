"""Balance on the suite's one real Ray: what every test of `tests/cluster` shares.

Tests share the actors, so each uses ids of its own (`unique`) and gives back what it took.  Nothing here
sleeps for a fixed time: a test awaits an actor's own answer, or `eventually` looks until a deadline.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from balance.config import Settings
from balance.storage import Store

CALL_TIMEOUT_S = 60.0
LOOK_EVERY_S = 0.05


@dataclass(frozen=True)
class Balance:
    """A running Balance, as a plain Ray driver sees it."""

    ray: ModuleType
    settings: Settings

    def actor(self, name: str) -> Any:
        """Return an actor's handle."""
        return self.ray.get_actor(name, namespace="balance")

    def start(self, role: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method and return the reference of its answer."""
        return getattr(self.actor(role), method).remote(*args, **kwargs)

    def ask(self, role: str, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call a method and return its answer."""
        return self.get(self.start(role, method, *args, **kwargs))

    def get(self, reference: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        """Return what a reference (or a list of them) stands for; where none comes, fail with how things stand."""
        try:
            return self.ray.get(reference, timeout=timeout_s)
        except self.ray.exceptions.GetTimeoutError:
            pytest.fail(f"no answer within {timeout_s:g} s; {self.standing()}")

    def standing(self) -> str:
        """Return who holds what and what waits, for the message of a test that failed."""
        calls = [self.start("resource_allocator", "list_allocations"), self.start("scheduler", "stats")]
        ready, _ = self.ray.wait(calls, num_returns=2, timeout=5)
        return f"allocator and scheduler say {self.ray.get(ready)}, Ray holds {self.places()}"

    def execute(self, task_id: str, function: Callable[..., Any], cpu: float = 0.5, **kwargs: Any) -> dict[str, Any]:
        """Run a task through the operation coordinator and return its report."""
        report: dict[str, Any] = self.ask("operation_coordinator", "execute_task", task_id, function, cpu, 0, **kwargs)
        return report

    def kill(self, role: str) -> dict[str, Any]:
        """End an actor's process with ``kill -9`` and return what it last said of itself."""
        before: dict[str, Any] = self.ask(role, "ping")
        os.kill(before["pid"], signal.SIGKILL)
        return before

    def is_back(self, role: str, before: dict[str, Any]) -> dict[str, Any]:
        """Wait until another process answers for a role, and return what it says of itself."""

        def answer() -> dict[str, Any] | None:
            now: dict[str, Any] = self.ask(role, "ping")
            return now if now["pid"] != before["pid"] else None

        return eventually(answer)

    def places(self) -> dict[str, dict[str, float]]:
        """Return Balance's placement groups that are created: the bundle by name."""
        groups = self.ray.util.placement_group_table().values()
        return {
            group["name"]: group["bundles"][0]
            for group in groups
            if group["name"].startswith("balance:") and group["state"] == "CREATED"
        }

    def held(self, node: str = "used") -> float:
        """Return how many cores the scheduler's leases hold, or have in use."""
        return float(sum(each[node]["cpu"] for each in self.ask("scheduler", "stats")["leases"].values()))

    def eventually(self, condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
        """Look until a condition is true; see `eventually`."""
        return eventually(condition, timeout_s)

    def store(self) -> Store:
        """Open the durable state, to read in it."""
        return Store(self.settings.database_url())


def eventually(condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    """Return what `condition` returns once it is true; fail after `timeout_s` seconds."""
    until = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until, f"still {found!r} after {timeout_s:g} s"
        time.sleep(LOOK_EVERY_S)
    return found


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    """Look until something is true, or fail."""
    return eventually


@pytest.fixture(scope="session")
def _balance_state(ray_cluster: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    from actors.system import stop_actors

    settings = Settings(
        state_dir=str(tmp_path_factory.mktemp("balance")),
        tick_s=1.0,
        allow_private_urls=True,  # the sources of these tests are servers of their own, on loopback
        collect_interval_s=0.0,
        allow_file_roots=str(tmp_path_factory.mktemp("readable")),
    )
    yield settings
    stop_actors(drain_s=0)
    left = Balance(ray_cluster, settings).places
    eventually(lambda: not left())


@pytest.fixture
def balance_cluster(ray_cluster: ModuleType, _balance_state: Settings) -> Balance:
    """All of Balance's actors, running; a test that took them down leaves them to be started for the next one."""
    from actors.roles import ROLES
    from actors.system import find_actors, start_actors

    if len(find_actors()) < len(ROLES):
        start_actors(_balance_state)
    return Balance(ray_cluster, _balance_state)


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Make ids that no other test uses."""
    return lambda name: f"{name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def signals(tmp_path: Path) -> Path:
    """A folder for files by which tasks and tests tell each other where they are."""
    return tmp_path
