"""The tasks that wait to be placed.

Tasks with the same needs wait in one queue, so that a task that no node can run holds up nobody else, and so that an
event costs what it changes, not what waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from jcpeer.application.task import Task
from jcpeer.coordinator.matching import NeedsKey, needs_key
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
    """The ready tasks, in order of arrival within equal needs."""

    def __init__(self, is_ready: Callable[[TaskId], bool]) -> None:
        self._is_ready = is_ready
        self._queues: dict[ReadyKey, ReadyQueue] = {}

    def add(self, task: Task, *, avoid: frozenset[NodeId], first: bool = False) -> None:
        key = (needs_key(task), avoid, task.once)
        if key not in self._queues:
            self._queues[key] = ReadyQueue(key, self._is_ready)
        self._queues[key].add(task.id, first=first)

    def __iter__(self) -> Iterator[ReadyQueue]:
        """Each queue that has a ready task at its head."""
        for key, queue in list(self._queues.items()):
            if queue.head() is None:
                del self._queues[key]
            else:
                yield queue

    def heads(self) -> Iterator[TaskId]:
        """The next task of each queue: all that ready tasks need, once each."""
        return (head for queue in self._queues.values() if (head := queue.head()) is not None)

    def __bool__(self) -> bool:
        return any(True for _ in self)

    def holds(self, task: TaskId) -> bool:
        """Whether this task waits here; for checks, since it looks at everything."""
        return any(queue.holds(task) for queue in self._queues.values())
