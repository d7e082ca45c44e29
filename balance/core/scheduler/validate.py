"""Every invariant of the engine, checked by recounting.  Tests call it after each step."""

from __future__ import annotations

from collections import Counter

from balance.core.scheduler.shape import Shape
from balance.core.scheduler.state import EngineState
from balance.core.scheduler.states import State
from balance.types import NOTHING, Resources


def validate(state: EngineState) -> None:
    """Raise `AssertionError` if anything contradicts anything else.  O(everything)."""
    state.ledger.validate()
    _check_tasks(state)
    _check_lines(state)
    _check_accounts(state)
    _check_gangs(state)
    _check_earmarks(state)


def _check_tasks(state: EngineState) -> None:
    counts = Counter(task.state for task in state.tasks.values())
    assert +Counter(state.counts) == counts, (state.counts, counts)
    for which, known in ((State.QUEUED, state.queued_by_priority), (State.RUNNING, state.running_by_priority)):
        by_priority = Counter(task.priority for task in state.tasks.values() if task.state is which)
        assert +Counter(known) == by_priority, (which, known, by_priority)
    running = {task.task_id for task in state.tasks.values() if task.state is State.RUNNING}
    running -= _behind(state)
    assert {hold.holder for hold in state.ledger.holds()} == running, "exactly those whose turn it is hold something"
    preemptible = Counter(
        (task.spec.tenant, task.priority) for task in map(state.tasks.__getitem__, running) if task.spec.preemptible
    )
    counted = {(name, each): number for name, row in state.preemptible.items() for each, number in row.items()}
    assert preemptible == counted, (preemptible, counted)
    assert set(state.history) == {task.task_id for task in state.tasks.values() if task.state.terminal}
    for task in state.tasks.values():
        hold = state.ledger.hold(task.task_id)
        assert task.hold is hold, f"{task.task_id} does not know what it holds"
        if hold is not None:
            assert hold.shape is task.shape and hold.room.node_id == task.node_id, task.task_id
            assert sum(amount for _, amount in hold.devices) == task.shape.gpu, task.task_id
        if task.state in (State.DELAYED, State.RETRYING):
            assert task.due_at is not None, f"{task.task_id} would never be due"
            next_due = state.timers.next_due()
            assert next_due is not None and next_due <= task.due_at, f"{task.task_id} has no timer"
        if task.state is State.WAITING:
            assert not state.resolver.can_execute(task.task_id), f"{task.task_id} waits for nothing"
        if task.state.terminal:
            assert task.entry is None and task.finished_at is not None, task.task_id


def _behind(state: EngineState) -> set[str]:
    """Return those who wait for their turn in a chunk, having checked the chunks."""
    behind: set[str] = set()
    rooms: Counter[Shape] = Counter()
    for chunk in {id(task.chunk): task.chunk for task in state.tasks.values() if task.chunk is not None}.values():
        first, *others = chunk.members()
        assert chunk.next() is first and first.hold is not None, "nobody of a chunk holds its room"
        rooms[first.shape] += 1
        for task in (first, *others):
            assert task.state is State.RUNNING and task.node_id == first.node_id, task.task_id
            assert task.shape is first.shape and task.spec.tenant == first.spec.tenant, task.task_id
        behind.update(task.task_id for task in others)
    assert rooms == +state.chunks, (rooms, state.chunks)
    return behind


def _check_lines(state: EngineState) -> None:
    standing: set[str] = set()
    for account in state.shares.accounts():
        lines = list(account.lines.values())
        lines += [gang.line for gang in state.gangs.values() if gang.line and gang.line.account is account]
        posted = 0
        for line in lines:
            valid = [entry for entry in line.heap if entry[2].entry is entry]
            assert len(valid) == len(line), "the count of stale entries is wrong"
            assert valid and line.posted is not None and line.posted[:2] == min(valid)[:2], "the first is not posted"
            assert line.posted in account.heap
            posted += 1
            for _, _, task in valid:
                assert task.state is State.QUEUED and task.task_id not in standing, task.task_id
                assert state.line_of(task) is line
                standing.add(task.task_id)
        assert posted == account.waiting_lines, account.name
        assert (account.rank is not None) == (posted > 0), account.name
    queued = {task.task_id for task in state.tasks.values() if task.state is State.QUEUED}
    incomplete = {name for gang in state.gangs.values() if not gang.complete for name in gang.ready}
    assert standing == queued - incomplete, standing ^ (queued - incomplete)


def _check_accounts(state: EngineState) -> None:
    for account in state.shares.accounts():
        held: Resources = NOTHING
        for hold in state.ledger.holds():
            if state.tasks[hold.holder].spec.tenant == account.name:
                held = held + hold.shape.demand
        assert {name: amount for name, amount in account.held.items() if amount} == dict(held.items()), account.name
        assert account.rate == state.shares.share(account), "a stale share"


def _check_gangs(state: EngineState) -> None:
    for gang in state.gangs.values():
        assert all(not task.state.terminal for task in gang.members.values())
        ready = {task.task_id for task in gang.members.values() if task.state is State.QUEUED}
        assert ready == set(gang.ready), gang.gang_id
        starting = [task for task in gang.members.values() if task.state is State.RUNNING and not task.stop_reason]
        assert not (gang.complete and starting), f"gang {gang.gang_id} runs in part"


def _check_earmarks(state: EngineState) -> None:
    assert len(state.earmarks) <= state.policy.earmarks_max
    rooms = [key for earmark in state.earmarks.values() for key in earmark.rooms]
    assert len(set(rooms)) == len(rooms), "a room is kept for two"
    for line, earmark in state.earmarks.items():
        assert line is earmark.line and line.posted is not None
        for key, (room, _) in earmark.rooms.items():
            assert state.ledger.room(*key) is room
