"""Who there is: the table of actors is true, and says of each what it needs to start."""

from __future__ import annotations

import pytest

from actors.base import Shell
from actors.roles import ROLES, Role


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_each_role_names_its_shell(role: Role) -> None:
    """The class can be imported, plays this role, and says what it does in a line that fits a table."""
    shell = role.load()
    assert issubclass(shell, Shell) and shell.role == role.name
    assert (shell.__doc__ or "").strip() and 0 < len(role.does) <= 60


def test_names_are_there_once_and_nobody_asks_below() -> None:
    """Roles are unique; what others ask while they start (messaging, then the allocator) starts before them."""
    names = [role.name for role in ROLES]
    assert len(set(names)) == len(names)
    order = {name: place for place, name in enumerate(names)}
    asks = {
        "scheduler": ["resource_allocator"],
        "model_coordinator": ["resource_allocator"],
        "data_coordinator": ["messaging"],
        "batches": ["messaging", "data_coordinator"],
    }
    assert all(order[asked] < order[name] for name, others in asks.items() for asked in others)
