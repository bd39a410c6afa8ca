"""The dispatch policy `assign`: the coordinator places each ready task itself, by data and by free slots.

Tasks with the same needs wait in one queue, so that a task that no node can run holds up nobody else, and so that an
event costs what it changes, not what waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping

from jcpeer.application.task import Call, Task
from jcpeer.coordinator.roster import Participant, prefetch_slots, slots_of, unmet_need
from jcpeer.ids import NodeId, TaskId

NeedsKey = tuple[int, int, tuple[tuple[str, str], ...], str]


def needs_key(task: Task) -> NeedsKey:
    """What decides where a task can run; tasks with equal keys can run on the same nodes."""
    needs = task.needs
    python = task.work.python if isinstance(task.work, Call) else ""
    return (needs.cpus, needs.memory_bytes, tuple(sorted(needs.labels.items())), python)


class ReadyQueues:
    """The ready tasks, in order of arrival within equal needs. Entries that are no longer ready are left out when
    they are met, so taking one out of the middle costs nothing."""

    def __init__(self, is_ready: Callable[[TaskId], bool]) -> None:
        self._is_ready = is_ready
        self._queues: dict[NeedsKey, deque[TaskId]] = {}

    def add(self, task: Task, *, first: bool = False) -> None:
        queue = self._queues.setdefault(needs_key(task), deque())
        if first:
            queue.appendleft(task.id)
        else:
            queue.append(task.id)

    def heads(self) -> Iterator[deque[TaskId]]:
        """Each queue that has a ready task at its head."""
        for key, queue in list(self._queues.items()):
            while queue and not self._is_ready(queue[0]):
                queue.popleft()
            if queue:
                yield queue
            else:
                del self._queues[key]

    def drop_stale(self, queue: deque[TaskId]) -> None:
        while queue and not self._is_ready(queue[0]):
            queue.popleft()

    def __bool__(self) -> bool:
        return any(True for _ in self.heads())


def able_to_run(task: Task, participants: Mapping[NodeId, Participant]) -> dict[NodeId, Participant]:
    """The participants that offer what this task, and so each task of its queue, needs."""
    return {node: each for node, each in participants.items() if unmet_need(task, each.record) is None}


def choose(
    task: Task,
    able: Mapping[NodeId, Participant],
    *,
    local_bytes: Callable[[Task, NodeId], int],
    avoid: frozenset[NodeId],
    mean_run_s: float | None,
) -> NodeId | None:
    """The participant that is to run this task, or None while none has room.

    A free slot comes before a place in a queue; then the node that holds most of the task's input bytes; then the one
    with the most free slots. `avoid` are nodes where it failed: taken only when no other could run it.
    """
    wanted = slots_of(task.needs)
    willing = able.keys() - avoid if avoid else able.keys()
    best: tuple[tuple[bool, int, float], NodeId] | None = None
    for node, participant in able.items():
        if willing and node not in willing:
            continue
        free = participant.slots_free
        if free + prefetch_slots(participant.slots, mean_run_s) < wanted:
            continue
        score = (free >= wanted, local_bytes(task, node), free / participant.slots)
        if best is None or score > best[0]:
            best = (score, node)
    return best[1] if best else None
