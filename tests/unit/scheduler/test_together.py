"""Tasks of different GPU demands that wait together are placed together."""

from __future__ import annotations

import pytest
from cluster_play import Play, need, room

from balance.core.scheduler import together
from balance.core.scheduler.events import TaskSubmitted
from balance.core.scheduler.spec import TaskSpec


def submit(play: Play, *gpus: float, **options: object) -> list[str]:
    """Submit one task per demand in one event, named by its position, and return what happens."""
    specs = [
        TaskSpec(f"{number}", demand=need(gpu=gpu), **{"priority": 3, **options}) for number, gpu in enumerate(gpus)
    ]
    return play.tell(*(TaskSubmitted(spec) for spec in specs))


def test_what_fits_together_starts_together():
    """Two devices hold 0.4, 0.4, 0.6, 0.6 if each 0.4 lies beside a 0.6: best fit alone would stack the 0.4s."""
    play = Play(("n1", room(gpu=2)))
    assert len(submit(play, 0.4, 0.4, 0.6, 0.6)) == 4
    assert sorted(play.engine.state.ledger.room("n1").gpus.values()) == [0, 0]


def test_who_is_first_is_not_displaced_for_two_who_are_not():
    """One device: the whole starts, although two halves would make it two; in their turn the halves do."""
    play = Play(("n1", room(gpu=1)))
    assert submit(play, 1, 0.5, 0.5) == ["start 0 on n1/0"]
    play.now = 1.0
    assert play.finish("0") == ["0 completed", "start 1 on n1/0", "start 2 on n1/0"]


def test_a_fraction_leaves_the_pair_whole():
    """0.7 does not break one of two devices that the next task wants both of, and 0.3 joins it."""
    play = Play(("n1", room(gpu=2)), ("n2", room(gpu=1)))
    started = submit(play, 0.7, 2, 0.3, 0.9)
    assert started == ["start 0 on n2/0", "start 1 on n1/0/1", "start 2 on n2/0"]


def test_a_gang_that_greedy_placement_would_leave_waiting_starts():
    """Two devices hold 0.4, 0.3, 0.3 each; largest first and tightest first puts the 0.4s together and one waits."""
    play = Play(("n1", room(gpu=1)), ("n2", room(gpu=1)))
    gpus = (0.4, 0.4, 0.3, 0.3, 0.3, 0.3)
    members = [
        TaskSpec(f"g{number}", demand=need(gpu=gpu), gang_id="g", gang_size=6) for number, gpu in enumerate(gpus)
    ]
    assert len(play.tell(*(TaskSubmitted(spec) for spec in members))) == 6
    play.engine.validate()


@pytest.mark.parametrize("demands", [(0.5,) * 6, (0, 0, 0)])
def test_it_costs_nothing_where_all_are_equal_or_ask_for_no_device(monkeypatch, demands):
    """Then no arrangement is better than another, and none is looked for."""

    def never(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("nothing to decide together")

    monkeypatch.setattr(together, "place_most", never)
    play = Play(("n1", room(gpu=2, cpu=4)))
    assert len(submit(play, *demands)) == min(len(demands), 4)
