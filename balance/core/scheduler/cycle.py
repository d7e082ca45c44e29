"""One scheduling decision after another: who starts next, and where.

A decision, aloud: the tenant with the smallest share; its line whose first task is first; does that fit
somewhere where it delays nobody who is before it?  Then it starts.  If not, the next line is looked at;
but before anyone overtakes a line that does not fit, room is kept for that one.  When nothing more can
start, less urgent work is stopped for the first that do not fit, where that is allowed.

At most `scan_max` lines are looked at for one decision; a line that was found not to fit is not tried
again before something was freed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from balance.core.scheduler.backfill import Earmark, choose_room, choose_rooms, permits
from balance.core.scheduler.chunk import Chunk, take_chunk
from balance.core.scheduler.fair_share import Account
from balance.core.scheduler.lifecycle import Lifecycle
from balance.core.scheduler.lines import Line
from balance.core.scheduler.preemption import choose_victims
from balance.core.scheduler.room import Devices, Room
from balance.core.scheduler.state import EngineState
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task
from balance.core.scheduler.together import Together

SHAPES_MAX = 16  # up to so many waiting shapes are looked at to tell that nothing fits


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
        self._together = Together(state)
        state.ledger.pick = self._together.devices

    def run(self, starts: int | None) -> None:
        """Start up to `starts` tasks (a gang counts as one); all that can be when None."""
        state = self._state
        if state.paused:
            return
        self._together.forget()
        left = state.policy.running_max - state.counts[State.RUNNING]
        # Who says how many may start means tasks, not chunks of them.
        chunked = starts is None and state.policy.chunk_s > 0
        for number in range(left if starts is None else min(left, starts)):
            if self._nothing_fits(look=number > 0) or not self._start_next(chunked):
                return

    def _start_next(self, chunked: bool) -> bool:
        state = self._state
        passed: list[Line] = []
        scanned = 0
        for account in state.shares.in_order():
            for line in account.waiting():
                scanned += 1
                if scanned > state.policy.scan_max:
                    break
                if line.misfit == state.ledger.releases:
                    passed.append(line)
                elif self._try(line, passed, chunked):
                    return True
        self._preempt_for(passed)
        return False

    def _nothing_fits(self, look: bool) -> bool:
        """Say whether it is certain, by the few shapes that wait, that no task can start.

        On a full cluster that is the end of the cycle, and every line would be looked at in vain.  With
        `look`, shapes of which it is not known are tried: worth it after a start, when most will not fit.
        """
        state = self._state
        if state.earmarks or state.preemptible or state.gangs_waiting or len(state.shapes_waiting) > SHAPES_MAX:
            return False
        releases = state.ledger.releases
        for shape in state.shapes_waiting:
            if shape.misfit != releases:
                if not look or shape.reservation is not None or state.placement.best(shape) is not None:
                    return False
                shape.misfit = releases
        return True

    def _try(self, line: Line, passed: list[Line], chunked: bool) -> bool:
        """Start the first of `line`, which overtakes those `passed`; else add it to them."""
        state = self._state
        head = line.head()
        assert head is not None, "an empty line was posted"
        if line.account.over_limit(head.shape) is not None:
            state.drop_earmark(line)
            line.misfit = state.ledger.releases
            return False
        places = self._places_for(line, head)
        if places and passed and self._keep_room_for(passed):
            places = self._places_for(line, head)
        if not places:
            line.misfit = state.ledger.releases
            passed.append(line)
            return False
        state.drop_earmark(line)
        if chunked and line.gang is None and state.earmark_on(places[0][1]) is None:
            self._start_chunk(line, places[0][1])
        else:
            for task, room, devices in places:
                if devices is not None:
                    self._together.keep(task.shape, (room, devices))
                self._start(task, room)
        if state.earmarks and line.account.tenant.limit is not None:
            self._drop_useless(line.account)
        return True

    # ------------------------------------------------------------------ finding room

    def _places_for(self, line: Line, head: Task) -> list[tuple[Task, Room, Devices | None]]:
        """Return where the first of `line` (all of a gang) would go; empty if there is no room."""
        if line.gang is None:
            room = self._room_for(line, head)
            return [(head, room, None)] if room is not None else []
        state, members = self._state, line.gang.in_placing_order()
        placed: list[tuple[Task, Room, Devices | None]] = []
        for task in members:
            room = self._room_for(line, task)
            if room is None:
                break
            devices = state.placement.devices(room, task.shape)
            state.ledger.take(task.task_id, room, task.shape, devices)
            placed.append((task, room, devices))
        for task, *_ in reversed(placed):
            state.ledger.undo(task.task_id)
        if len(placed) == len(members):
            return placed
        return [*self._together.gang(members, self._taken_for(line))]

    def _room_for(self, line: Line, task: Task) -> Room | None:
        state, shape = self._state, task.shape
        if shape.misfit == state.ledger.releases:
            return None  # another tenant's task of this shape has tried
        room = state.placement.best(shape, shape.reservation) if shape.reservation is not None else None
        permit = self._permit(line, task) if state.earmarks else None
        if room is None and shape.gpu and line.gang is None:
            room = self._together.room_for(shape, permit)
        if room is None:
            room = state.placement.best(shape, "", permit)
        if room is None and not state.earmarks and line.gang is None:
            shape.misfit = state.ledger.releases  # not for a gang, whose other members are placed on trial
        return room

    def _permit(self, line: Line, task: Task) -> Callable[[Room], bool]:
        def permit(room: Room) -> bool:
            earmark = self._state.earmark_on(room)
            if earmark is None or _place(line) <= _place(earmark.line):
                return True  # an earmark protects against those behind, not against those before
            earmark.bring_forward(self._state.now, self._state.end_of)
            devices = self._state.placement.devices(room, task.shape)
            return self._over_by(earmark, task) or permits(earmark, room, task.shape, devices)

        return permit

    def _over_by(self, earmark: Earmark, task: Task) -> bool:
        """Say whether `task`, started now, will have ended when the earmarked room is needed."""
        now = self._state.now
        longest_s = self._state.run_times.longest_s(task) if now < earmark.shadow else None
        return longest_s is not None and now + longest_s <= earmark.shadow

    def _start(self, task: Task, room: Room) -> None:
        earmark = self._state.earmark_on(room) if self._state.earmarks else None
        if earmark is not None:
            if self._over_by(earmark, task):
                earmark.ending.add(task.task_id)
            else:
                earmark.ending.discard(task.task_id)
        self._lifecycle.start(task, room)

    def _start_chunk(self, line: Line, room: Room) -> None:
        """Start the first of `line` in `room`, and after it as many of the next as are short."""
        state = self._state
        slots = state.shares.slots(line.shape) + state.chunks[line.shape]
        most = state.policy.running_max - state.counts[State.RUNNING]
        tasks, run_s = take_chunk(line, state.policy, state.run_times, slots, most)
        state.repost(line)
        if len(tasks) > 1:
            self._lifecycle.start_chunk(Chunk(tasks, state.now, state.now + run_s), room)
        else:
            self._lifecycle.start(tasks[0], room)

    # ------------------------------------------------------------------ keeping room

    def _drop_useless(self, account: Account) -> None:
        """Keep no room for lines of a tenant that may not use it any more, as it has just come to its limit."""
        for line in [line for line in self._state.earmarks if line.account is account]:
            head = line.head()
            if head is not None and account.over_limit(head.shape) is not None:
                self._state.drop_earmark(line)

    def _keep_room_for(self, passed: list[Line]) -> bool:
        """Earmark room for the first of those who are about to be overtaken; say whether that changed anything."""
        changed = False
        for line, head in self._first_of(passed):
            if line not in self._state.earmarks and self._may_earmark(line):
                earmark = self._by_waiting(line, head)
                if earmark is not None:
                    self._put(earmark)
                    changed = True
        return changed

    def _first_of(self, passed: list[Line]) -> Iterator[tuple[Line, Task]]:
        """Yield the first lines that wait for room (not for their tenant's limit), with their first tasks."""
        found = 0
        for line in passed:
            head = line.head()
            assert head is not None, "an empty line was posted"
            if line.account.over_limit(head.shape) is None:
                yield line, head
                found += 1
                if found >= self._state.policy.earmarks_max:
                    return

    def _may_earmark(self, line: Line) -> bool:
        """Say whether there is an earmark to be had: a free one, or that of a line behind `line`."""
        earmarks = self._state.earmarks
        return (
            line in earmarks
            or len(earmarks) < self._state.policy.earmarks_max
            or _place(line) < max(map(_place, earmarks))
        )

    def _put(self, earmark: Earmark) -> None:
        state = self._state
        for other in list(state.earmarks.values()):
            if not earmark.rooms.keys().isdisjoint(other.rooms):
                state.drop_earmark(other.line)
        if len(state.earmarks) >= state.policy.earmarks_max:
            state.drop_earmark(max(state.earmarks, key=_place))
        state.earmarks[earmark.line] = earmark

    def _by_waiting(self, line: Line, head: Task) -> Earmark | None:
        """Choose the room that will be free first; None if there is none, which is found out once per release."""
        state = self._state
        if line.unkept == state.ledger.releases or line.unholdable == state.ledger.capacity_version:
            return None
        rooms = state.ledger.rooms("")
        taken = self._taken_for(line)
        if line.gang is not None:
            shapes = [task.shape for task in line.gang.in_placing_order()]
            many = choose_rooms(rooms, shapes, state.now, state.end_of, taken)
            return Earmark.made(line, *many, state.end_of) if many else None
        one = choose_room(state.nearest, head.shape, state.now, state.end_of, taken)
        if one is not None:
            return Earmark.made(line, {one[0].key: (one[0], [head.shape])}, one[1], state.end_of)
        line.unkept = state.ledger.releases
        if not any(room.could_hold(head.shape) for room in rooms):
            line.unholdable = state.ledger.capacity_version
        return None

    # ------------------------------------------------------------------ preemption

    def _preempt_for(self, passed: list[Line]) -> None:
        """Stop less urgent work for the first of those that do not fit."""
        state = self._state
        if not passed or not state.preemptible:
            return
        for line, head in self._first_of(passed):
            known = state.earmarks.get(line)
            if line.gang is not None or (known is not None and known.preempted) or not self._may_earmark(line):
                continue
            share = state.shares.share(line.account, head.shape)
            if not self._anyone_to_stop(line, head, share):
                continue
            taken = self._taken_for(line)
            rooms = (room for room in state.ledger.rooms("") if not taken(room))
            found = choose_victims(rooms, head.shape, state.now, self._victim_for(line, head, share))
            if found is not None:
                for victim in found.victims:
                    self._lifecycle.preempt(victim)
                state.drop_earmark(line)
                rooms_kept = {found.room.key: (found.room, [head.shape])}
                self._put(Earmark(line, rooms_kept, state.now, preempted=True))

    def _anyone_to_stop(self, line: Line, head: Task, share: float) -> bool:
        """Say whether any victim is conceivable, without looking at tasks."""
        shares = self._state.shares
        for tenant, priorities in self._state.preemptible.items():
            if tenant == line.account.name:
                if max(priorities) > head.priority:
                    return True
            elif shares.share(shares.account(tenant)) >= share:
                return True
        return False

    def _victim_for(self, line: Line, head: Task, share: float) -> Callable[[str], Task | None]:
        state = self._state

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
