"""The commands under ``balance dlq``: what could not be handled, why, and once more."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from actors.console import Address, StateDir, asking, out

app = typer.Typer(help="Messages that could not be handled: list, show, replay.", rich_markup_mode=None)

Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="Where the messages came from, as 'list' names it.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@app.command("list")
def list_(as_json: AsJson = False, address: Address = None, state_dir: StateDir = None) -> None:
    """Count the dead letters that nobody has dealt with, by topic."""
    with asking(state_dir, address) as client:
        answer = client.dead_letters("list")
    if as_json:
        out.print_json(json.dumps(answer))
        return
    for topic, count in answer["topics"].items():
        out.print(f"{count:>8}  {topic}", markup=False, soft_wrap=True)
    if not answer["open"]:
        out.print("no dead letters")


@app.command()
def show(
    topic: Topic,
    limit: Annotated[int, typer.Option(metavar="LETTERS", min=1, help="At most so many, oldest first.")] = 10,
    as_json: AsJson = False,
    address: Address = None,
    state_dir: StateDir = None,
) -> None:
    """Show the oldest dead letters of a topic: the reason, where it failed, and the message."""
    with asking(state_dir, address) as client:
        answer = client.dead_letters("show", topic, limit)
    if as_json:
        out.print_json(json.dumps(answer))
        return
    for letter in answer["letters"]:
        out.print("\n".join(_lines(letter)), markup=False, soft_wrap=True)
    out.print(f"{len(answer['letters'])} of {answer['open']} shown")


@app.command()
def replay(
    topic: Topic,
    limit: Annotated[int | None, typer.Option(metavar="LETTERS", min=1, help="At most so many.")] = None,
    address: Address = None,
    state_dir: StateDir = None,
) -> None:
    """Put the messages back on their topic, oldest first; what fails again becomes a new dead letter."""
    with asking(state_dir, address) as client:
        answer = client.dead_letters("replay", topic, limit)
    out.print(f"{answer['replayed']} replayed, {answer['unreadable']} unreadable, {answer['open']} left")


def _lines(letter: dict[str, Any]) -> list[str]:
    r"""Write one letter for a person.

    Examples
    --------
    >>> letter = {"offset": 3, "reason": "no luck", "attempts": 5, "group": "g", "dead_lettered_at": "now",
    ...           "error": {"traceback": "Traceback:\n  here"}, "text": '{"n":1}'}
    >>> print("\n".join(_lines(letter)))
    3: no luck
      given up now by group g after 5 attempts
      message  {"n":1}
      | Traceback:
      |   here
    """
    lines = [f"{letter['offset']}: {letter.get('reason')}"]
    if isinstance(letter.get("error"), dict):
        given_up = f"given up {letter.get('dead_lettered_at')} by group {letter.get('group')}"
        lines.append(f"  {given_up} after {letter.get('attempts')} attempts")
    lines.append(f"  message  {letter['text'] if letter['text'] is not None else '(no text; see --json)'}")
    trace = letter["error"].get("traceback", "") if isinstance(letter.get("error"), dict) else ""
    return lines + [f"  | {line}" for line in str(trace).splitlines()]
