"""`import balance` is cheap: what it loads is counted, for a time measured on a busy machine proves nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {"ray", "statsmodels", "pandas", "scipy", "numpy", "matplotlib", "sqlalchemy", "pydantic", "httpx", "fsspec"}


def loaded_by(statement: str) -> set[str]:
    """Return the modules that `statement` adds in an interpreter of its own."""
    script = (
        f"import json, sys; before = set(sys.modules); {statement}; print(json.dumps([*set(sys.modules) - before]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def top_level(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_importing_balance_loads_next_to_nothing() -> None:
    """`import balance` loads itself and a few modules of the standard library, no third-party package."""
    modules = loaded_by("import balance")
    assert top_level(modules) <= sys.stdlib_module_names | {"balance"}
    assert {name for name in modules if name.startswith("balance")} == {"balance"}
    assert len(modules) <= 50, sorted(modules)


@pytest.mark.parametrize("name", ["BalanceError", "Priority", "Resources", "Settings"])
def test_the_ground_needs_no_third_party_package(name: str) -> None:
    """The names that `balance` itself offers come without any heavy package."""
    assert not top_level(loaded_by(f"from balance import {name}")) & HEAVY


def test_the_command_line_answers_without_ray() -> None:
    """`balance --help` and typing mistakes do not wait for Ray or statsmodels to load."""
    assert not top_level(loaded_by("import actors.cli")) & {"ray", "statsmodels", "pandas", "scipy", "matplotlib"}
