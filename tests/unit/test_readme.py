"""The README promises what the code does: its examples, its links, its tables."""

from __future__ import annotations

import ast
import re
import struct
from dataclasses import fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer

from actors.cli import app
from actors.roles import ROLES
from balance.config import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()

# In the order in which a newcomer needs them.
COMMANDS = (
    *("up", "status", "actors", "submit", "tasks", "explain", "plan", "cancel", "dlq"),
    *("down", "demo", "replay", "simulate", "scaling", "forecast", "backtest", "version"),
)


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading of the README, without its first row."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def commands() -> dict[str, Any]:
    """Return the commands by name (typer brings click with it, in a module of its own)."""
    group: Any = typer.main.get_command(app)
    return {name: command for name, command in group.commands.items() if not command.hidden}


def shown(value: object) -> str:
    """Return a default as the README writes it."""
    return "empty" if value == "" else f"`{str(value).lower()}`"


@pytest.mark.parametrize(("number", "needs"), [(0, "balance"), (1, "ray"), (2, "ray")])
def test_the_examples_are_python(number: int, needs: str) -> None:
    """Each Python example can be read by Python and needs what the text says (`tests/cluster` runs them)."""
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 3
    tree = ast.parse(blocks[number])
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert [*imported, *(node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))] == [needs]


def test_the_table_of_settings_is_complete() -> None:
    """Every setting has its row with the default that the code has, in the order of the code."""
    defaults = {field.name: shown(field.default) for field in fields(Settings)}
    defaults["state_dir"] = "`~/.local/state/balance`"  # where it is empty, this is what it becomes
    listed = [(name, default) for name, default, _ in table("Configuration")]
    assert listed == [(f"`{PREFIX}{name.upper()}`", default) for name, default in defaults.items()]


def test_the_table_of_commands_is_complete() -> None:
    """Every command has its row, which begins what ``--help`` says."""
    listed = dict(table("Commands"))
    assert list(listed) == [f"`balance {name}`" for name in COMMANDS] and set(COMMANDS) == set(commands())
    for name in COMMANDS:
        said = commands()[name].help.strip()
        assert said.startswith(listed[f"`balance {name}`"].rstrip(".")), said


def test_options_that_the_readme_names_exist() -> None:
    """An option behind a command in an example is one that this command has."""
    for name, rest in re.findall(r"\bbalance (\w+)((?: [^`\n]*)?)", README):
        known = commands().get(name)
        if known is None:
            continue
        options = {option for param in known.params for option in (*param.opts, *param.secondary_opts)} | {"--help"}
        assert set(re.findall(r"--[a-z-]+", rest)) <= options, f"balance {name}{rest}"


def test_every_link_leads_somewhere() -> None:
    """Files that the README links to or shows exist."""
    for target in re.findall(r"\]\(([^)#\s]+)\)", README):
        assert "://" in target or (ROOT / target).is_file(), target


def test_every_actor_is_in_the_picture_and_on_the_page() -> None:
    """The picture of the house and the page about it name each actor there is."""
    drawn = ElementTree.parse(ROOT / "docs/images/house.svg")
    words = {"".join(element.itertext()).strip() for element in drawn.iter() if element.tag.endswith("text")}
    page = (ROOT / "docs/architecture.md").read_text()
    for role in ROLES:
        assert role.name in words
        assert f"| `{role.name}` |" in page


def test_the_picture_of_the_report_loads_fast() -> None:
    """The screenshot is a PNG below 200 KB, wide enough to be read."""
    content = (ROOT / "docs/images/report.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) < 200_000
    assert struct.unpack(">I", content[16:20])[0] >= 800
