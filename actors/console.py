"""What the commands share: where they print, the options that most of them take, and the way to the actors."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from balance.config import Settings

# Into a pipe or a file nothing is cut or wrapped.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)

StateDir = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Durable state (default: BALANCE_STATE_DIR, or ~/.local/state/balance)."),
]
Address = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="A Ray cluster that runs, or 'auto' (default: RAY_ADDRESS, or our own)."),
]


def settings_for(state_dir: str | None) -> Settings:
    """Return the environment's settings, with another state directory if one is named."""
    return Settings.from_env(state_dir=str(Path(state_dir).expanduser().absolute()) if state_dir else None)


@contextlib.contextmanager
def asking(state_dir: str | None, address: str | None) -> Iterator[Any]:
    """Connect, and give what asks the actors; Ray is imported only after it was told whether to send a token."""
    from actors import system  # noqa: PLC0415

    system.running(settings_for(state_dir), address)
    from actors import client  # noqa: PLC0415 (imports Ray)

    yield client
