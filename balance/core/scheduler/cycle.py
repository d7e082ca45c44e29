"""One scheduling decision after another: who starts next, and where.

A decision, aloud: the tenant with the smallest share; its line whose first task is first; does that fit
somewhere where it delays nobody who is before it?  Then it starts.  If not, room is kept for it (by
stopping less urgent work, where that is allowed, or by an earmark), and the next line is looked at.  At
most `scan_max` lines are looked at for one decision; a line that was found not to fit is not tried again
before something was freed.
"""

from __future__ import annotations

from collections.abc import Callable

from balance.core.scheduler.backfill import Earmark, choose_room, choose_rooms, permits
from balance.core.scheduler.lifecycle import Lifecycle
from balance.core.scheduler.lines import Line
from balance.core.scheduler.preemption import choose_victims
from balance.core.scheduler.room import Room
from balance.core.scheduler.state import EngineState
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task


class Cycle:
    """Starts what can start.

    Parameters
    ----------
    state : EngineState
        What it decides on.
    lifecycle : Lifecycle
        Carries out starts and preemptions.
    """

    def __init__(self, state: EngineState, lifecycle: Lifecycle) -> None:
        self._state = state
        self._lifecycle = lifecycle

    def run(self, starts: int | None) -> None:
        """Start up to `starts` tasks (a gang counts as one); all that can be when None."""
        state = self._state
        if state.paused:
            return
        left = state.policy.running_max - state.counts[State.RUNNING]
        for _ in range(left if starts is None else min(left, starts)):
            if not self._start_next():
                return

    def _start_next(self) -> bool:
        scanned = 0
        for account in self._state.shares.in_order():
            for line in account.waiting():
                scanned += 1
                if scanned > self._state.policy.scan_max:
                    return False
                if self._try(line):
                    return True
        return False

    def _try(self, line: Line) -> bool:
        state = self._state
        if line.misfit == state.ledger.releases:
            return False
        head = line.head()
        assert head is not None, "an empty line was posted"
        if line.account.over_limit(head.shape) is not None:
            state.drop_earmark(line)
            line.misfit = state.ledger.releases
            return False
        started = self._start_task(line, head) if line.gang is None else self._start_gang(line)
        if started:
            state.drop_earmark(line)
            return True
        self._keep_room(line, head)
        line.misfit = state.ledger.releases
        return False

    # ------------------------------------------------------------------ starting

    def _start_task(self, line: Line, task: Task) -> bool:
        room = self._room_for(line, task)
        if room is None:
            return False
        self._lifecycle.start(task, room)
        return True

    def _start_gang(self, line: Line) -> bool:
        """Place all members on trial; start them only if each has found room."""
        assert line.gang is not None
        ledger = self._state.ledger
        placed: list[tuple[Task, Room]] = []
        for task in line.gang.in_placing_order():
            room = self._room_for(line, task)
            if room is None:
                break
            ledger.take(task.task_id, room, task.shape)
            placed.append((task, room))
        for task, _ in reversed(placed):
            ledger.undo(task.task_id)
        if len(placed) < len(line.gang.ready):
            return False
        # The same order and the same ledger: each start picks the devices that its trial picked.
        for task, room in placed:
            self._lifecycle.start(task, room)
        return True

    def _room_for(self, line: Line, task: Task) -> Room | None:
        state = self._state
        pool = task.shape.reservation
        if pool is not None:
            room = state.placement.best(task.shape, pool)
            if room is not None:
                return room
        return state.placement.best(task.shape, "", self._permit(line, task) if state.earmarks else None)

    def _permit(self, line: Line, task: Task) -> Callable[[Room], bool]:
        state = self._state
        longest_s = state.run_times.longest_s(task)

        def permit(room: Room) -> bool:
            earmark = state.earmark_on(room)
            if earmark is None or _place(line) <= _place(earmark.line):
                return True  # an earmark protects against those behind, not against those before
            return permits(earmark, room, task.shape, longest_s=longest_s, now=state.now, end_of=state.end_of)

        return permit

    # ------------------------------------------------------------------ keeping room

    def _keep_room(self, line: Line, head: Task) -> None:
        state = self._state
        if line in state.earmarks or not state.policy.earmarks_max:
            return
        earmark = self._by_preemption(line, head) or self._by_waiting(line, head)
        if earmark is None:
            return
        for key in earmark.rooms:
            other = next((mark for mark in state.earmarks.values() if key in mark.rooms), None)
            if other is not None:
                state.drop_earmark(other.line)
        if len(state.earmarks) >= state.policy.earmarks_max:
            last = max(state.earmarks, key=_place)
            if _place(last) <= _place(line):
                return
            state.drop_earmark(last)
        state.earmarks[line] = earmark

    def _by_waiting(self, line: Line, head: Task) -> Earmark | None:
        state = self._state
        rooms = state.ledger.rooms("")
        if line.gang is None:
            chosen = choose_room(rooms, head.shape, state.now, state.end_of, self._taken_for(line))
            return Earmark(line, {chosen[0].key: (chosen[0], [head.shape])}, chosen[1]) if chosen else None
        shapes = [task.shape for task in line.gang.in_placing_order()]
        many = choose_rooms(rooms, shapes, state.now, state.end_of, self._taken_for(line))
        return Earmark(line, *many) if many else None

    def _by_preemption(self, line: Line, head: Task) -> Earmark | None:
        state = self._state
        if not state.preemptible_running or line.gang is not None:
            return None
        taken = self._taken_for(line)
        rooms = (room for room in state.ledger.rooms("") if not taken(room))
        found = choose_victims(rooms, head.shape, state.now, self._victim_for(line, head))
        if found is None:
            return None
        for victim in found.victims:
            self._lifecycle.preempt(victim)
        return Earmark(line, {found.room.key: (found.room, [head.shape])}, state.now)

    def _victim_for(self, line: Line, head: Task) -> Callable[[str], Task | None]:
        state = self._state
        share = state.shares.share(line.account, head.shape)

        def victim(holder: str) -> Task | None:
            task = state.tasks[holder]
            if not task.spec.preemptible or task.stop_reason is not None:
                return None
            if task.preemptions >= state.policy.preemptions_max:
                return None
            if task.spec.tenant == line.account.name:
                return task if task.priority > head.priority else None
            theirs = state.shares.account(task.spec.tenant)
            if theirs.below_quota() and not line.account.below_quota():
                return None
            return task if state.shares.share(theirs, task.shape, -1) >= share else None

        return victim

    def _taken_for(self, line: Line) -> Callable[[Room], bool]:
        """Return which rooms are kept for lines that go before `line`."""
        state = self._state
        mine = _place(line)

        def taken(room: Room) -> bool:
            earmark = state.earmark_on(room)
            return earmark is not None and _place(earmark.line) <= mine

        return taken


def _place(line: Line) -> tuple[float, int]:
    """The key of the first task of a line: smaller goes first, whoever's it is."""
    assert line.posted is not None, "an earmark is dropped with the last task of its line"
    return (line.posted[0], line.posted[1])
