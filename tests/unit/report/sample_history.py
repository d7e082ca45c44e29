"""A history as a real run of a minute would leave it, made from the demo's own rates."""

from __future__ import annotations

import math
import random
from typing import Any

from actors.demo.workload import DAYS, arrivals, rate


def sample_history() -> dict[str, Any]:
    rng = random.Random(4)
    t_s = [float(t) for t in range(60)]
    day = list(arrivals(60.0, seed=7))
    demand = {}
    models = []
    for model_id, shown in (("anomaly", 1), ("forecaster", 3), ("indexer", 4)):
        mine = [a for a in day if a.model_id == model_id]
        actual = [float(sum(int(a.t_s) == t for a in mine)) for t in range(60)]
        wanted = [rate(model_id, t + 0.5, 60.0) * (0.7 + 0.3 * min(1, t / 20)) for t in range(60)]
        demand[model_id] = {
            "t_s": t_s,
            "actual_per_s": actual,
            "forecast_t_s": t_s[6:],
            "q10_per_s": [max(0.0, w - 1.3 * math.sqrt(w)) for w in wanted[6:]],
            "q50_per_s": wanted[6:],
            "q90_per_s": [w + 1.5 * math.sqrt(w) for w in wanted[6:]],
        }
        failed = 2 if model_id == "indexer" else 0
        models.append(
            {
                "model_id": model_id,
                "priority": shown,
                "objective_s": {"anomaly": 0.5, "forecaster": 2.0, "indexer": 5.0}[model_id],
                "accepted": len(mine),
                "completed": len(mine) - failed - (model_id == "forecaster"),
                "failed": failed,
                "dead_lettered": int(model_id == "forecaster"),
                "in_flight": 0,
                "executed": int(len(mine) * {"anomaly": 0.82, "forecaster": 0.61, "indexer": 0.9}[model_id]),
                "latency_s": {"p50": 0.04 * shown**2, "p95": 0.11 * shown**2, "p99": 0.21 * shown**2},
            }
        )
    load = [
        sum(rate(m, t + 0.5, 60.0) * c for m, c in zip(DAYS, (0.004, 0.085, 0.035), strict=True)) for t in range(60)
    ]
    waiting = {str(p): [max(0.0, rng.gauss((w - 0.9) * 9 * (p - 0.6), 1.0 + p / 2)) for w in load] for p in range(1, 6)}
    total = {name: sum(m[name] for m in models) for name in ("accepted", "completed", "failed", "dead_lettered")}
    return {
        "title": "A day of demand in a minute",
        "started_at": "2026-05-04T09:12:44+00:00",
        "duration_s": 63.4,
        "command": "balance demo --seconds 60 --seed 7",
        "environment": {
            "balance": "0.1.0",
            "python": "3.11.7",
            "ray": "2.60.0",
            "statsmodels": "0.15.0",
            "platform": "Linux x86_64",
            "cores": 2,
            "memory_bytes": 8 * 2**30,
        },
        "conservation": {**total, "in_flight": 0, "holds": True},
        "models": models,
        "demand": demand,
        "queue": {"t_s": t_s, "by_priority": waiting},
        "start_latency": {
            str(p): {"count": 100, "p50_s": 0.004 * 2.2**p, "p99_s": 0.02 * 2.9**p} for p in range(1, 6)
        },
        "usage": {
            "t_s": t_s,
            "cpu_capacity_cores": 2.0,
            "cpu_reserved_cores": [min(2.0, 0.5 * math.ceil(2 * w + 0.4)) for w in load],
            "cpu_measured_cores": [min(2.0, w + 0.15 + rng.random() * 0.2) for w in load],
            "memory_capacity_bytes": 8 * 2**30,
            "memory_reserved_bytes": [int((1 + 0.5 * math.ceil(2 * w)) * 2**30) for w in load],
            "memory_measured_bytes": [int((2.1 + t / 90 + rng.random() / 20) * 2**30) for t in t_s],
        },
        "actions": [
            {"t_s": t, "action": action, "subject": subject, "reason": reason}
            for t, action, subject, reason in (
                (2.0, "prefetch", "series/co2", "asked for 14 times in the last 10 s and due again in 3 s"),
                (9.0, "reserve", "forecaster", "9.4 requests/s expected (90 %), 85 ms each: 1 replica is full"),
                (16.0, "set parallelism", "forecaster", "expected 14.2 requests/s: 2 replicas instead of 1"),
                (22.0, "throttle", "indexer", "critical work waits 0.6 s; its batches may wait 400 ms longer"),
                (29.0, "release", "forecaster", "expected 3.1 requests/s for the next 10 s: 1 replica is enough"),
                (40.0, "reserve", "indexer", "12.9 requests/s expected (90 %), 35 ms each"),
                (44.0, "set parallelism", "indexer", "backlog of 37 is drained within 5 s by 2 replicas"),
                (46.0, "prefetch", "documents/0", "a crowd asks for one shard: 40 requests in 1 s"),
                (55.0, "release", "indexer", "idle for 6 s"),
            )
        ],
        "data": [
            {"source": "statsmodels", "requested": 412, "fetched": 10, "size_bytes": 31_000},
            {"source": "documents", "requested": 389, "fetched": 8, "size_bytes": 2_070_000},
            {"source": "host", "requested": 371, "fetched": 143, "size_bytes": 290_000},
        ],
        "errors": [{"t_s": 31.2, "where": "indexer", "message": "queries is []; expected a list", "count": 2}],
    }  # fmt: skip
