"""What the command line asks of a running Balance: plain calls to its actors, every one with a limit."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util import list_named_actors

from actors import NAMESPACE, processes
from actors.executors import PREFIX
from actors.system import find_actors
from balance.client.peer import Peer
from balance.client.travel import travels_along
from balance.errors import BalanceError

PING_TIMEOUT_S = 10.0


def actors() -> list[dict[str, Any]]:
    """Return every actor's `ping`, executors included; one that does not answer is ``dead`` or ``silent``."""
    handles = find_actors()
    for entry in sorted(list_named_actors(all_namespaces=True), key=lambda entry: str(entry["name"])):
        if entry["namespace"] == NAMESPACE and entry["name"].startswith(PREFIX):
            handles[entry["name"]] = ray.get_actor(entry["name"], namespace=NAMESPACE)
    calls = {name: handle.ping.remote() for name, handle in handles.items()}
    ray.wait(list(calls.values()), num_returns=len(calls), timeout=PING_TIMEOUT_S)
    answers = []
    for name, call in calls.items():
        try:
            answers.append(ray.get(call, timeout=0.1))
        except GetTimeoutError:
            # An executor is silent while its task keeps the interpreter to itself; a coordinator never should be.
            answers.append({"role": name, "state": "busy" if name.startswith(PREFIX) else "silent"})
        except RayActorError:
            answers.append({"role": name, "state": "dead"})
    return answers


def overview() -> dict[str, Any]:
    """Return ``actors`` (see `actors`) and ``figures``: what waits, runs and is held, for a person."""
    figures: dict[str, Any] = {}
    scheduler = _ask("scheduler", "stats")
    cluster = _ask("resource_allocator", "get_system_resources")["cluster"]
    models = _ask("batches", "stats_only")["models"]
    figures["tasks"] = f"{scheduler['queue']['queued']} waiting, {scheduler['queue']['running']} running"
    figures["cpu"] = _amount(cluster, "cpu", "cores")
    figures["memory"] = _amount(cluster, "memory", "GiB", 2**30)
    if cluster["total"]["gpu"]:
        figures["gpu"] = _amount(cluster, "gpu", "devices")
    for model_id, model in sorted(models.items()):
        figures[f"model {model_id}"] = (
            f"{model['queued']} waiting, {model['running']} batches running, {model['completed']} answered, "
            f"{model['failed']} failed, {model['dead_lettered']} dead-lettered"
        )
    return {"actors": actors(), "figures": figures}


def _amount(cluster: dict[str, Any], name: str, unit: str, divisor: float = 1.0) -> str:
    shown = {kind: cluster[kind][name] for kind in ("total", "reserved", "used")}
    parts = [
        f"{value / divisor:.1f} {unit} {word}"
        for kind, word in (("total", "in all"), ("reserved", "reserved"), ("used", "measured in use"))
        if (value := shown[kind]) is not None
    ]
    return ", ".join(parts)


def dead_letters(what: str, *arguments: Any) -> dict[str, Any]:
    """Ask the messaging actor for its dead letters: ``list``, ``show`` or ``replay``."""
    answer: dict[str, Any] = _ask("messaging", f"{what}_dead_letters", *arguments, timeout_s=300.0)
    return answer


def decisions(last: int) -> list[dict[str, Any]]:
    """Return the balancer's last plans with their reasons, newest first."""
    found: list[dict[str, Any]] = _ask("balancer", "decisions", last)
    return found


def situation() -> dict[str, Any] | None:
    """Return what the balancer's last plan was made from, a `balance.planning.Situation`; None before its first."""
    found: dict[str, Any] | None = _ask("balancer", "situation")
    return found


def execute(
    call: Callable[..., Any],
    arguments: Sequence[Any],
    *,
    cpu: float,
    memory: float,
    priority: int,
    task_id: str | None,
) -> dict[str, Any]:
    """Run one function through the operation coordinator and return its report; an interrupt cancels the task."""
    travels_along(call)
    name = getattr(call, "__name__", "task")
    given = task_id or f"{name}-{uuid.uuid4().hex[:12]}"
    bound = partial(call, *arguments) if arguments else call
    processes.raise_on_signals()
    try:
        report: dict[str, Any] = _ask(
            "operation_coordinator", "execute_task", given, bound, cpu, memory, priority, timeout_s=None
        )
    except KeyboardInterrupt:
        with contextlib.suppress(BalanceError):
            _ask("scheduler", "cancel", given, timeout_s=5.0)
        raise
    return report


def tasks(state: str | None, tenant: str | None, name: str | None, limit: int) -> list[dict[str, Any]]:
    """Return the tasks that the scheduler has in memory, see `actors.task_list.list_tasks`."""
    found: list[dict[str, Any]] = _ask("scheduler", "tasks", state, tenant, name, limit)
    return found


def explain(task_id: str) -> dict[str, Any]:
    """Return why a task is where it is: the keys of `balance.core.scheduler.explain.Explanation`."""
    found: dict[str, Any] = _ask("scheduler", "explain", task_id)
    return found


def cancel(task_ids: Sequence[str]) -> list[bool]:
    """Cancel tasks and say of each whether it was not over already."""
    done: list[bool] = _ask("scheduler", "cancel_many", list(task_ids))
    return done


def _ask(role: str, method: str, *arguments: Any, timeout_s: float | None = 30.0) -> Any:
    return Peer(role, NAMESPACE).call(method, *arguments, timeout_s=timeout_s)
