"""The tasks that wait to be placed.

Tasks with the same needs wait in one queue, so that a task that no node can run holds up nobody else, and so that an
event costs what it changes, not what waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping

from jcpeer.application.task import Task
from jcpeer.coordinator.matching import NeedsKey, needs_key
from jcpeer.coordinator.roster import slots_of
from jcpeer.ids import NodeId, TaskId

ReadyKey = tuple[NeedsKey, frozenset[NodeId], bool]
"""Needs, whom to avoid, and whether they are marked `once`."""


class ReadyQueue:
    """Ready tasks that can run on the same nodes; those in `avoid` failed them, and are asked only if no other can."""

    def __init__(self, key: ReadyKey, is_ready: Callable[[TaskId], bool]) -> None:
        self.key = key
        self.avoid = key[1]
        self.once = key[2]
        self._is_ready = is_ready
        self._tasks: deque[TaskId] = deque()

    def add(self, task: TaskId, *, first: bool) -> None:
        if first:
            self._tasks.appendleft(task)
        else:
            self._tasks.append(task)

    def head(self) -> TaskId | None:
        """The task to be placed next. Those that are no longer ready are left out when they are met, so that taking
        one out of the middle costs nothing."""
        while self._tasks and not self._is_ready(self._tasks[0]):
            self._tasks.popleft()
        return self._tasks[0] if self._tasks else None

    def pop(self) -> TaskId | None:
        """Take the head out."""
        task = self.head()
        if task is not None:
            self._tasks.popleft()
        return task

    def holds(self, task: TaskId) -> bool:
        return task in self._tasks


class ReadyQueues:
    """The ready tasks, in order of arrival within equal needs. There may be as many queues as tasks, where each has
    needs of its own."""

    def __init__(self, is_ready: Callable[[TaskId], bool]) -> None:
        self._is_ready = is_ready
        self._queues: dict[ReadyKey, ReadyQueue] = {}
        self._by_width: dict[int, dict[ReadyKey, ReadyQueue]] = {}
        """The same by the slots that their tasks take."""
        self._new: dict[ReadyKey, ReadyQueue] = {}

    def add(self, task: Task, *, avoid: frozenset[NodeId], first: bool = False) -> None:
        key = (needs_key(task), avoid, task.once)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = self._new[key] = ReadyQueue(key, self._is_ready)
            self._by_width.setdefault(slots_of(task.needs), {})[key] = queue
        queue.add(task.id, first=first)

    def __iter__(self) -> Iterator[ReadyQueue]:
        """Each queue that has a ready task at its head. None is added meanwhile; whoever has enough may stop."""
        empty = []
        try:
            for queue in self._queues.values():
                if queue.head() is not None:
                    yield queue
                else:
                    empty.append(queue)
        finally:
            for queue in empty:
                self._remove(queue)

    def _remove(self, queue: ReadyQueue) -> None:
        del self._queues[queue.key]
        self._new.pop(queue.key, None)
        for queues in self._by_width.values():
            queues.pop(queue.key, None)

    def take_new(self) -> Iterable[ReadyQueue]:
        """The queues that were not there when this was last asked."""
        new, self._new = self._new, {}
        return new.values()

    def heads(self) -> Iterator[TaskId]:
        """The next task of each queue: all that ready tasks need, once each."""
        return (head for queue in self._queues.values() if (head := queue.head()) is not None)

    @property
    def widest(self) -> int:
        """The most slots that a ready task takes; 1 where there is none."""
        widths = sorted(self._by_width, reverse=True)
        return next((each for each in widths if _any_ready(self._by_width[each])), 1)

    def __bool__(self) -> bool:
        return _any_ready(self._queues)

    def holds(self, task: TaskId) -> bool:
        """Whether this task waits here; for checks, since it looks at everything."""
        return any(queue.holds(task) for queue in self._queues.values())


def _any_ready(queues: Mapping[ReadyKey, ReadyQueue]) -> bool:
    return any(queue.head() is not None for queue in queues.values())
