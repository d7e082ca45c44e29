"""The ports' adapters in a process that has not connected to Ray, whatever the rest of the suite has started."""

from __future__ import annotations

import pytest
import ray


@pytest.fixture(autouse=True)
def _not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
