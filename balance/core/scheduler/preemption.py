"""Whom to stop for a more urgent task: those whose stop loses least work per resource freed.

Candidates are running tasks that allow it, below the newcomer's *own* priority (aging moves a task up in
the queue, it gives no right to stop others), and, of another tenant, only where that tenant holds more
than its fair share even afterwards: then the two can never stop each other in turn (Kueue's rule
"less than or equal to final share").  Lost work is what has run since the start: Balance takes no
checkpoints.  For each room the victims are collected greedily by lost work per freed share of what lacks
and those that turn out not to be needed are let go again; the cheapest room wins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from balance.core.scheduler.room import Room
from balance.core.scheduler.shape import Shape
from balance.core.scheduler.task import Task

ROOMS_MAX = 64  # rooms that are looked at for one preemption


@dataclass(frozen=True, slots=True)
class Preemption:
    """Where to make room, whom to stop, and the work that is lost (device- or core-seconds)."""

    room: Room
    victims: tuple[Task, ...]
    lost_s: float


def choose_victims(
    rooms: Iterable[Room],
    shape: Shape,
    now: float,
    victim_in: Callable[[str], Task | None],
) -> Preemption | None:
    """Return the cheapest way to make room for `shape` by stopping tasks; None if there is none.

    Parameters
    ----------
    rooms : iterable of Room
        Where it could go; the first `ROOMS_MAX` that could hold it are looked at.
    shape : Shape
        What needs room.
    now : float
        POSIX seconds.
    victim_in : callable
        ``victim_in(holder)``: the task, if it may be stopped for this newcomer, else None.

    Returns
    -------
    Preemption or None
        The one that loses least; ties go to fewer victims, then to the smaller node id.
    """
    options: list[tuple[float, int, tuple[str, str], Preemption]] = []
    looked_at = 0
    for room in rooms:
        if looked_at >= ROOMS_MAX:
            break
        if not room.could_hold(shape):
            continue
        looked_at += 1
        option = _in_room(room, shape, now, victim_in)
        if option is not None:
            options.append((option.lost_s, len(option.victims), room.key, option))
    return min(options)[3] if options else None


def _in_room(room: Room, shape: Shape, now: float, victim_in: Callable[[str], Task | None]) -> Preemption | None:
    lacks = room.shortfall(shape)
    ranked: list[tuple[float, int, Task]] = []
    for hold in room.holds.values():
        victim = victim_in(hold.holder)
        if victim is None:
            continue
        held = dict(hold.shape.amounts)
        freed = sum(min(held.get(name, 0), amount) / amount for name, amount in lacks.items())
        if freed > 0:
            ranked.append((_lost_s(victim, now) / freed, victim.seq, victim))
    sketch = room.sketch()
    chosen: list[Task] = []
    for _, _, victim in sorted(ranked):
        if sketch.fits(shape):
            break
        sketch.add(victim.shape, room.holds[victim.task_id].devices, 1)
        chosen.append(victim)
    if not sketch.fits(shape):
        return None
    for victim in sorted(chosen, key=lambda task: (-_lost_s(task, now), task.seq)):
        devices = room.holds[victim.task_id].devices
        sketch.add(victim.shape, devices, -1)
        if sketch.fits(shape):
            chosen.remove(victim)
        else:
            sketch.add(victim.shape, devices, 1)
    return Preemption(room, tuple(chosen), sum(_lost_s(victim, now) for victim in chosen))


def _lost_s(task: Task, now: float) -> float:
    """Work that a stop throws away: seconds run, times the largest of cores and devices held."""
    ran = now - (now if task.started_at is None else task.started_at)
    return ran * max(task.shape.cpu, task.shape.gpu, 1) / 1000
