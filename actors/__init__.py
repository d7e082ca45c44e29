"""The Ray shells: one named, detached actor around each decider of `balance`, and the command line.

Importing this package sets what Ray reads at its own import, and nothing else.  Ray's hook for
``uv run`` is switched off: with it every worker process builds a virtual environment of its own.
"""

from __future__ import annotations

import os

NAMESPACE = "balance"

os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
