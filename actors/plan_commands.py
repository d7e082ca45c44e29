"""The command that asks the balancing decision: what it would do now, and what if something were different."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.console import Address, StateDir, asking, out
from balance.errors import BalanceError, InvalidValue

if TYPE_CHECKING:
    from balance.planning import Situation


def plan(
    what_if: Annotated[
        list[str] | None,
        typer.Option(
            "--what-if",
            metavar="HYPOTHESIS",
            help="demand:MODEL=x2, queued:MODEL=500, cpu=+8, cold-start=300, add:NEW=MODEL, without=MODEL ...; "
            "several are taken together.",
        ),
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="A situation that was saved; no cluster is needed.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE", help="Keep the situation as it is, for later questions.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    address: Address = None,
    state_dir: StateDir = None,
) -> None:
    """Show what the balancing loop decides now, and what it would decide if something were different."""
    from dataclasses import replace  # noqa: PLC0415 (with those below: only this command needs them)

    from balance.planning import Situation, differences, explain, suppose  # noqa: PLC0415

    if source is not None:
        situation = _read(source)
    else:
        with asking(state_dir, address) as client:
            found = client.situation()
        if found is None:
            out.print("the balancing loop has not taken its first turn yet")
            raise typer.Exit(1)
        situation = Situation.from_dict(found)
    if save is not None:
        save.write_text(json.dumps(situation.to_dict(), indent=1) + "\n", encoding="utf-8")
    now = situation.plan()
    other = replace(situation, snapshot=suppose(situation.snapshot, what_if or ())).plan()
    changed = differences(now, other)
    if as_json:
        answer = {"now": now.to_dict(), "supposed": other.to_dict(), "differences": changed, "what_if": what_if or []}
        out.print_json(json.dumps(answer))
        return
    _say("Now", explain(now))
    if what_if:
        _say("With " + ", ".join(what_if), changed or ["Nothing would be decided otherwise."])
        _say("It would then do", [action.reason for action in other.actions] or ["Nothing: all is as it should be."])


def _say(title: str, sentences: list[str]) -> None:
    out.print(title, style="bold", markup=False, soft_wrap=True)
    for sentence in sentences:
        out.print(f"  - {sentence}", markup=False, soft_wrap=True)


def _read(source: Path) -> Situation:
    from balance.planning import Situation  # noqa: PLC0415

    expected = "a file that 'balance plan --save' has written"
    try:
        return Situation.from_dict(json.loads(source.read_text(encoding="utf-8")))
    except OSError as error:
        raise InvalidValue("--from", str(source), f"{expected} ({error.strerror})") from None
    except BalanceError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InvalidValue("--from", str(source), expected) from None
