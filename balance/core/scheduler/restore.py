"""Taking the engine's state apart for keeping, and putting it together again.

Derived things (heaps, rankings, free amounts, shares) are not kept: they follow from the tasks, the nodes
and the few facts below, and are rebuilt, so that a snapshot can't contradict itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from balance.core.scheduler.backfill import Earmark
from balance.core.scheduler.chunk import Chunk
from balance.core.scheduler.gang import Gang
from balance.core.scheduler.room import Devices, Room
from balance.core.scheduler.state import EngineState
from balance.core.scheduler.states import State
from balance.core.scheduler.task import Task, TaskImage
from balance.core.scheduler.timers import Due
from balance.errors import Conflict
from balance.types import Resources


@dataclass(frozen=True, slots=True)
class RoomImage:
    """A room of a node, without what is held in it."""

    node_id: str
    pool: str
    capacity: Resources
    devices: Devices


@dataclass(frozen=True, slots=True)
class EarmarkImage:
    """An earmark, by the first task of its line and the members that go to each room."""

    task_id: str
    rooms: tuple[tuple[str, str, tuple[Resources, ...]], ...]
    shadow: float
    ending: tuple[str, ...]
    preempted: bool


@dataclass(frozen=True, slots=True)
class ChunkImage:
    """The members of a chunk, the one that holds the room first, and its times."""

    task_ids: tuple[str, ...]
    began_at: float
    ends_at: float


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    """Everything that the engine's decisions depend on, apart from its policy."""

    now: float
    seq: int
    paused: bool
    tasks: tuple[TaskImage, ...]
    history: tuple[str, ...]
    rooms: tuple[RoomImage, ...]
    limits: tuple[RoomImage, ...]
    chunks: tuple[ChunkImage, ...]
    earmarks: tuple[EarmarkImage, ...]
    shares: dict[str, Any]
    run_times: dict[str, Any]
    memory_peaks: dict[str, Any]


def take(state: EngineState) -> EngineSnapshot:
    """Return a snapshot; O(tasks + rooms)."""
    earmarks = []
    for line, earmark in state.earmarks.items():
        head = line.head()
        assert head is not None
        rooms = tuple((*key, tuple(shape.demand for shape in shapes)) for key, (_, shapes) in earmark.rooms.items())
        ending = tuple(sorted(earmark.ending))
        earmarks.append(EarmarkImage(head.task_id, rooms, earmark.shadow, ending, earmark.preempted))
    return EngineSnapshot(
        now=state.now,
        seq=state.seq,
        paused=state.paused,
        tasks=tuple(task.image() for task in state.tasks.values()),
        history=tuple(state.history),
        rooms=tuple(_room_image(room) for room in state.ledger.rooms()),
        limits=tuple(_room_image(room) for room in state.limits.values()),
        chunks=_chunk_images(state),
        earmarks=tuple(earmarks),
        shares=state.shares.snapshot(),
        run_times=state.run_times.snapshot(),
        memory_peaks=state.memory_peaks.snapshot(),
    )


def put(state: EngineState, snapshot: EngineSnapshot) -> None:
    """Bring a fresh state to where `snapshot` was taken; `Conflict` if it is not fresh."""
    if state.tasks or list(state.ledger.rooms()):
        raise Conflict("only a fresh engine can be restored")
    state.now, state.seq, state.paused = snapshot.now, snapshot.seq, snapshot.paused
    for image in snapshot.rooms:
        state.ledger.add_room(image.node_id, image.pool, image.capacity, image.devices)
    for image in snapshot.limits:
        state.limits[image.node_id] = Room(image.node_id, "", image.capacity, image.devices)
    state.shares.resize(state.ledger.total)
    state.run_times.restore(snapshot.run_times)
    state.memory_peaks.restore(snapshot.memory_peaks)
    homeless = adopt(state, snapshot.tasks, snapshot.chunks)
    assert not homeless, f"the snapshot lacks the rooms of {homeless}"
    state.shares.restore(snapshot.shares, snapshot.now)
    state.history.clear()
    state.history.update(dict.fromkeys(snapshot.history))
    for mark in snapshot.earmarks:
        line = state.line_of(state.tasks[mark.task_id])
        rooms = {}
        for node_id, pool, demands in mark.rooms:
            room = state.ledger.room(node_id, pool)
            assert room is not None
            rooms[room.key] = (room, [state.shape(demand, line.shape.reservation) for demand in demands])
        state.earmarks[line] = Earmark(line, rooms, mark.shadow, set(mark.ending), mark.preempted)
    state.changed.clear()


def _chunk_images(state: EngineState) -> tuple[ChunkImage, ...]:
    chunks = {id(task.chunk): task.chunk for task in state.tasks.values() if task.chunk is not None}
    return tuple(_chunk_image(each) for each in chunks.values())


def _chunk_image(chunk: Chunk) -> ChunkImage:
    return ChunkImage(tuple(task.task_id for task in chunk.members()), chunk.began_at, chunk.ends_at)


def adopt(state: EngineState, images: Iterable[TaskImage], chunks: Iterable[ChunkImage] = ()) -> list[str]:
    """Take tasks in as they were; return those that ran where no room is any more.

    Those keep their state, ``running``, without holding anything, until they are reported lost.
    """
    tasks = []
    for image in sorted(images, key=lambda image: image.seq):
        if image.task_id in state.tasks:
            raise Conflict(f"task {image.task_id!r} exists already", task_id=image.task_id)
        task = image.revive(state.shape(Resources.from_dict(image.demand), image.spec.reservation))
        state.tasks[task.task_id] = task
        if task.state is State.QUEUED:
            state.count_queued(task.shape, (task,))
        else:
            state.counts[task.state] += 1
            if task.state is State.RUNNING:
                state.running_by_priority[task.priority] += 1
        state.seq = max(state.seq, task.seq)
        state.changed[task.task_id] = task
        tasks.append((task, image))
    homeless = []
    behind = _rejoin_chunks(state, chunks)
    for task, image in tasks:
        _rejoin_gang(state, task)
        if task.spec.deadline is not None and not task.state.terminal:
            state.timers.add(task.spec.deadline, Due.DEADLINE, task)
        if task.state is State.RUNNING:
            if task.task_id not in behind and not _resume(state, task, image):
                homeless.append(task.task_id)
        else:
            _put_back(state, task)
    over = [task for task, _ in tasks if task.state.terminal]
    for task in sorted(over, key=lambda task: (task.finished_at or 0.0, task.seq)):
        state.history[task.task_id] = None
    return homeless


def _rejoin_chunks(state: EngineState, chunks: Iterable[ChunkImage]) -> set[str]:
    """Put chunks together again; return those who wait for their turn."""
    behind: set[str] = set()
    for image in chunks:
        members = [state.tasks[task_id] for task_id in image.task_ids]
        Chunk(members, image.began_at, image.ends_at)
        state.chunks[members[0].shape] += 1
        behind.update(image.task_ids[1:])
    return behind


def _resume(state: EngineState, task: Task, image: TaskImage) -> bool:
    node_id = task.node_id or ""
    room = state.ledger.room(node_id, image.pool) or state.ledger.room(node_id)
    if task.spec.timeout_s is not None:
        assert task.started_at is not None, "what runs has started"
        state.timers.add(task.started_at + task.spec.timeout_s, Due.TIMEOUT, task)
    if room is None:
        return False
    task.hold = state.ledger.take(task.task_id, room, task.shape, image.devices)
    state.count_preemptible(task, 1)
    state.shares.take(state.shares.account(task.spec.tenant), task.shape)
    return True


def _put_back(state: EngineState, task: Task) -> None:
    if task.state is State.WAITING:
        known = (state.tasks.get(dependency) for dependency in task.spec.dependencies)
        unmet = [other.task_id for other in known if other is not None and other.state is not State.COMPLETED]
        state.resolver.add_dependency(task.task_id, unmet)
    elif task.due_at is not None:
        state.timers.add(task.due_at, Due.RELEASE, task)
    elif task.state is State.QUEUED and task.spec.gang_id is None:
        line = state.line_of(task)
        line.push(task, _key(state, task))
        state.repost(line)


def _rejoin_gang(state: EngineState, task: Task) -> None:
    gang_id = task.spec.gang_id
    if gang_id is None:
        return
    gang = state.gangs.get(gang_id)
    if gang is None:
        gang = state.gangs[gang_id] = Gang(gang_id, task.spec.gang_size)
    gang.joined += 1
    if task.state is State.COMPLETED:
        gang.completed += 1
    elif task.state.terminal:
        gang.failed_by = gang.failed_by or task.task_id
    else:
        gang.members[task.task_id] = task
    if task.state is State.QUEUED:
        gang.ready[task.task_id] = task
    if gang.joined == gang.size and not gang.members:
        del state.gangs[gang_id]
    elif gang.complete:
        line = state.line_of(task)
        for member in gang.ready.values():
            if member.entry is None:
                line.push(member, _key(state, member))
        state.repost(line)


def _key(state: EngineState, task: Task) -> float:
    assert task.eligible_at is not None, f"{task.task_id} is queued but was never eligible"
    return task.eligible_at + task.priority * state.policy.aging_step_s


def _room_image(room: Room) -> RoomImage:
    return RoomImage(room.node_id, room.pool, room.capacity, room.devices)
