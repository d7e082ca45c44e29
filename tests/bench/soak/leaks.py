"""What is held of the cluster: before the soak and after it, the same."""

from __future__ import annotations

import time
from typing import Any

SETTLE_S = 30.0
"""How long leases and the janitor may take after the last task: leases are kept for seconds on purpose."""


def held() -> dict[str, Any]:
    """Return Balance's placement groups, the allocator's ledger, and what Ray has available."""
    import ray
    from ray.util import placement_group_table

    groups = sorted(
        str(group["name"])
        for group in placement_group_table().values()
        if str(group["name"]).startswith("balance:") and group["state"] != "REMOVED"
    )
    allocator = ray.get_actor("resource_allocator", namespace="balance")
    ledger = sorted(each["allocation_id"] for each in ray.get(allocator.list_allocations.remote(), timeout=30))
    available = ray.available_resources()
    return {
        "groups": groups,
        "ledger": ledger,
        "available": {name: available.get(name, 0.0) for name in ("CPU", "GPU", "memory")},
    }


def leaked(before: dict[str, Any]) -> dict[str, Any]:
    """Return what is still held that was not before, once things have settled; nothing is ``{}``."""
    until = time.monotonic() + SETTLE_S
    while (now := held()) != before and time.monotonic() < until:
        time.sleep(0.25)
    return {name: {"before": before[name], "after": now[name]} for name in now if now[name] != before[name]}
